//! The `dagwood` command.
//!
//! ```text
//!   arguments ── args ──► run ──► wasm, dag, olive   programs, in each engine
//!                     ├─► check                 is it valid; do the engines agree
//!                     ├─► bisect, reduce        which rewrite is to blame, and for what
//!                     ├─► opt     ┐
//!                     ├─► print   ┤
//!                     └─► compile ┴─► methods   the IL of a file, whichever it is
//! ```
//!
//! *Guarantees.* Every failure becomes a message on standard error and an exit code in one place, [`main`]. What a file holds
//! never panics, and nothing here is `unsafe`.
#![forbid(unsafe_code)]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("dagwood makes machine code for Linux on x86-64 and runs nowhere else");

mod args;
mod bisect;
mod check;
mod compile;
mod dag;
mod engine;
mod help;
mod listing;
mod load;
mod methods;
mod olive;
mod opt;
mod outcome;
mod print;
mod progress;
mod reduce;
mod report;
mod run;
mod value;
mod wasm;
mod watchdog;

use std::process::ExitCode;

use args::Request;
use report::{Failure, Output};

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

fn dispatch() -> Result<(), Failure> {
    match args::parse(std::env::args_os().skip(1))? {
        Request::Help(None) => print(&help::general()),
        Request::Help(Some(command)) => print(&help::of(command)),
        Request::Version => print(help::VERSION),
        Request::Run(matches) => match matches.command.name {
            "run" => run::run(&matches),
            "check" => check::run(&matches),
            "print" => print::run(&matches),
            "opt" => opt::run(&matches),
            "bisect" => bisect::run(&matches),
            "reduce" => reduce::run(&matches),
            _ => compile::run(&matches),
        },
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = Output::standard();
    out.put(text)?;
    out.finish()
}
