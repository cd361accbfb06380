//! Which programs a bench runs over.

use crate::Options;
use crate::engine::{Failure, Program, Result};
use crate::kernels;
use crate::libraries;
use crate::report::{Report, progress};

/// Every WebAssembly program that `--only` leaves in; what cannot be built on this machine is noted in the report. There must be one,
/// unless there are `others`.
pub(crate) fn selected(options: &Options, others: &[Program], report: &mut Report) -> Result<Vec<Program>> {
    let mut programs = kernels::programs()?;
    let mut names: Vec<String> = programs.iter().map(|program| program.name.clone()).collect();
    programs.retain(|program| options.selects(&program.name));
    names.extend(libraries::names());
    progress("building the C libraries");
    match libraries::programs(options) {
        Ok(libraries) => programs.extend(libraries),
        Err(Failure(reason)) => {
            report.sections.push(format!("The C libraries are left out: {reason}.\n"));
        }
    }
    progress("");
    if programs.is_empty() && others.is_empty() {
        return Err(Failure(format!("--only leaves no program; there are {}", names.join(", "))));
    }
    Ok(programs)
}
