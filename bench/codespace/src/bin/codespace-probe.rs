//! A fresh process that places code near itself, and prints how that went.
//!
//! ```text
//! codespace-probe HOSTILE SEED BYTES
//!   near 1 rung Reserved place 1234 space 5678 hostile 0
//! ```
//!
//! `HOSTILE` mappings are strewn within 2 GiB of the image before anything is placed. Times are in nanoseconds: `place` of
//! reserving `BYTES` of addresses, the first that the process makes, `space` of making a whole space then. `near` says whether each byte of the space's first code,
//! one function for each lane, is in reach of a direct call from the image, and back.

use std::process::ExitCode;

use dagwood_bench_codespace::probe;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Some(Ok(hostile)), Some(Ok(seed)), Some(Ok(bytes))) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!("usage: codespace-probe HOSTILE SEED BYTES");
        return ExitCode::from(2);
    };
    match probe::run(main as *const () as usize, hostile, seed, bytes as usize) {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("codespace-probe: {error}");
            ExitCode::FAILURE
        }
    }
}
