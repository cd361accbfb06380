//! The machine that code is made for: built once, shared by all threads that compile.
//!
//! Cranelift runs without its own optimizer: what it would do is done before it, and its rewrites move constants
//! back into the loops they were taken out of. Frame pointers are kept because the runtime walks them.

use std::fmt;

use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::{self, OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};

use crate::artifact::Allocation;

/// Which instructions may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Features {
    /// Those of the machine that this runs on.
    Host,
    /// Those that every x86-64 machine has.
    Baseline,
}

/// Whether the code that is given to Cranelift is checked by Cranelift's verifier first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Checked, at a fifth to two thirds of the compile time: for tests.
    On,
    /// Not checked.
    Off,
}

/// A target that this build cannot make code for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError(String);

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no code can be made for this machine: {}", self.0)
    }
}

impl std::error::Error for TargetError {}

/// The values that a method may have, as Cranelift counts them, for registers to be allocated by searching. That takes
/// milliseconds for a thousand values, but more than in proportion: seconds for 100,000 in the worst shapes, minutes for
/// a million. Beyond, one pass allocates them in microseconds a value, and the code runs a quarter as fast.
pub const MAX_SEARCHED_VALUES: usize = 100_000;

/// The machine that code is made for.
pub struct Target {
    searching: OwnedTargetIsa,
    one_pass: OwnedTargetIsa,
    /// Whether there is an instruction for `fma`.
    pub(crate) has_fma: bool,
    /// Whether there are instructions for rounding to an integral value.
    pub(crate) has_rounding: bool,
}

/// Flags of every target, besides the verifier.
const FLAGS: &[(&str, &str)] = &[
    ("opt_level", "none"),
    // Callees and symbols may be anywhere: their addresses are loaded from words that are near.
    ("is_pic", "true"),
    ("unwind_info", "false"),
    ("preserve_frame_pointers", "true"),
    ("use_colocated_libcalls", "true"),
    // Results beyond the registers go through memory that the caller provides.
    ("enable_multi_ret_implicit_sret", "true"),
    ("enable_probestack", "false"),
    // Speculative reads are not hardened against: code in one process is in one domain of trust.
    ("enable_table_access_spectre_mitigation", "false"),
    ("enable_heap_access_spectre_mitigation", "false"),
];

impl Target {
    /// The target of this machine.
    ///
    /// # Errors
    ///
    /// If Cranelift does not know the machine or one of the settings.
    pub fn new(features: Features, verify: Verify) -> Result<Target, TargetError> {
        let mut instructions = Instructions::default();
        if features == Features::Host {
            instructions = Instructions::of_host();
        }
        Ok(Target {
            searching: isa(&instructions, verify, "backtracking")?,
            one_pass: isa(&instructions, verify, "single_pass")?,
            has_fma: instructions.has("has_fma"),
            has_rounding: instructions.has("has_sse41"),
        })
    }

    /// The machine for a method, and how its registers are allocated.
    pub(crate) fn isa(&self, func: &Function) -> (&dyn TargetIsa, Allocation) {
        match func.dfg.num_values() <= MAX_SEARCHED_VALUES {
            true => (&*self.searching, Allocation::Searched),
            false => (&*self.one_pass, Allocation::OnePass),
        }
    }
}

fn isa(
    instructions: &Instructions,
    verify: Verify,
    allocator: &'static str,
) -> Result<OwnedTargetIsa, TargetError> {
    let mut flags = settings::builder();
    let verifier = match verify {
        Verify::On => ("enable_verifier", "true"),
        Verify::Off => ("enable_verifier", "false"),
    };
    for (name, value) in FLAGS.iter().chain([&verifier, &("regalloc_algorithm", allocator)]) {
        flags.set(name, value).map_err(|error| TargetError(format!("{name}={value}: {error}")))?;
    }
    let mut builder =
        isa::lookup_by_name("x86_64-unknown-linux-gnu").map_err(|error| TargetError(error.to_string()))?;
    for name in &instructions.names {
        builder.enable(name).map_err(|error| TargetError(format!("{name}: {error}")))?;
    }
    builder.finish(settings::Flags::new(flags)).map_err(|error| TargetError(error.to_string()))
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.searching.name())
    }
}

/// The names of Cranelift's settings for instructions that the machine has.
#[derive(Default)]
struct Instructions {
    names: Vec<&'static str>,
}

impl Instructions {
    fn has(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    #[cfg(target_arch = "x86_64")]
    fn of_host() -> Instructions {
        let mut names = Vec::new();
        macro_rules! detect {
            ($($feature:tt => $name:literal),* $(,)?) => {
                $(if std::arch::is_x86_feature_detected!($feature) {
                    names.push($name);
                })*
            };
        }
        detect! {
            "cmpxchg16b" => "has_cmpxchg16b",
            "sse3" => "has_sse3",
            "ssse3" => "has_ssse3",
            "sse4.1" => "has_sse41",
            "sse4.2" => "has_sse42",
            "popcnt" => "has_popcnt",
            "avx" => "has_avx",
            "avx2" => "has_avx2",
            "fma" => "has_fma",
            "bmi1" => "has_bmi1",
            "bmi2" => "has_bmi2",
            "lzcnt" => "has_lzcnt",
            "avx512bitalg" => "has_avx512bitalg",
            "avx512dq" => "has_avx512dq",
            "avx512f" => "has_avx512f",
            "avx512vl" => "has_avx512vl",
            "avx512vbmi" => "has_avx512vbmi",
        }
        Instructions { names }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of_host() -> Instructions {
        Instructions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_shared_by_threads() {
        fn shared<T: Send + Sync>(_: &T) {}
        for features in [Features::Host, Features::Baseline] {
            shared(&Target::new(features, Verify::On).unwrap());
        }
    }
}
