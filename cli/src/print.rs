//! `dagwood print`: the IL of a file.

use bumpalo::Bump;
use dagwood_il::text;

use crate::args::Matches;
use crate::load::load;
use crate::methods::{Methods, Polls};
use crate::report::{Failure, Output};

/// Runs the command.
pub(crate) fn run(matches: &Matches) -> Result<(), Failure> {
    let wanted = matches.text("--function")?;
    let mut loaded = load(&matches.operands[0])?;
    let arena = Bump::new();
    let mut methods = Methods::open(&mut loaded, &arena, Polls::Off)?;
    let mut out = Output::standard();
    print(&mut methods, wanted, &mut out)?;
    out.finish()
}

/// Prints all of a file, such that it can be read again, or one method.
fn print(methods: &mut Methods<'_>, wanted: Option<&str>, out: &mut Output) -> Result<(), Failure> {
    let selected = methods.select(wanted)?;
    if wanted.is_none() {
        if let Some(all) = methods.canonical() {
            return out.put(&all);
        }
        out.put(&methods.declarations())?;
    }
    let comments: Vec<String> = selected.iter().map(|id| methods.comment(*id)).collect();
    let mut comments = comments.iter();
    methods.each(&selected, |known, method| {
        out.put(comments.next().map_or("", String::as_str))?;
        out.put(&text::print_method(known.module, method))?;
        out.put("\n")
    })
}
