//! The one table of passes. A pass is a file of this folder, its line among the modules, and its line in the table.

pub mod check_motion;
pub mod dead_store;
pub mod escape_analysis;
pub mod global_value_propagation;
pub mod gvn;
pub mod gvn_pre;
pub mod if_conversion;
pub mod inline;
pub mod jump_threading;
pub mod layout;
pub mod loop_inversion;
pub mod mark_cold;
pub mod monitor_elimination;
pub mod pre;
pub mod rebuild;
pub mod store_sinking;
pub mod switch_shaping;
pub mod tail_duplication;
pub mod throw_to_goto;
pub mod value_propagation;

use crate::pass::Pass;

/// Every pass, by name.
pub const PASSES: &[Pass] = &[
    check_motion::PASS,
    dead_store::PASS,
    escape_analysis::PASS,
    global_value_propagation::PASS,
    gvn::PASS,
    gvn_pre::PASS,
    if_conversion::PASS,
    inline::PASS,
    jump_threading::PASS,
    layout::PASS,
    loop_inversion::PASS,
    mark_cold::PASS,
    monitor_elimination::PASS,
    pre::PASS,
    rebuild::PASS,
    store_sinking::PASS,
    switch_shaping::PASS,
    tail_duplication::PASS,
    throw_to_goto::PASS,
    value_propagation::PASS,
];

/// The pass with this name.
pub fn by_name(name: &str) -> Option<Pass> {
    PASSES.iter().copied().find(|pass| pass.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_have_the_names_of_their_files_and_stand_in_their_order() {
        assert!(PASSES.is_sorted_by(|left, right| left.name < right.name), "{PASSES:?}");
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/passes");
        for pass in PASSES {
            let file = folder.join(pass.name).with_extension("rs");
            assert!(file.exists(), "{} is not there", file.display());
            assert!(!pass.summary.is_empty() && !pass.summary.ends_with('.'), "{}", pass.name);
        }
        assert!(by_name("no_such_pass").is_none());
    }
}
