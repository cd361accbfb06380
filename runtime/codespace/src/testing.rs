//! What the tests of this crate share: the memory map, and tests that run in a process of their own.

use std::ops::Range;
use std::process::Command;

use crate::system::maps::{self, Mapping};

/// Tells a test that it runs alone.
const ALONE: &str = "DAGWOOD_CODESPACE_ALONE";

/// Runs `body` in a process in which no other test runs: this test program, started again for the test `name` only.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some_and(|which| which == name) {
        return body();
    }
    let output = Command::new(std::env::current_exe().expect("a test knows its program"))
        .args(["--exact", name, "--test-threads=1", "--nocapture"])
        .env(ALONE, name)
        .output()
        .expect("the test program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{name} alone: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("1 passed"), "no test is called {name}: {text}");
}

/// The mappings that touch `range`.
pub(crate) fn mappings(range: Range<usize>) -> Vec<Mapping> {
    let mut found = Vec::with_capacity(64);
    maps::each(|mapping| {
        if mapping.start < range.end && range.start < mapping.end {
            found.push(mapping);
        }
    })
    .expect("the memory map can be read");
    found
}

/// How many mappings the process has.
pub(crate) fn count_mappings() -> usize {
    let mut count = 0;
    maps::each(|_| count += 1).expect("the memory map can be read");
    count
}

/// How the address may be used: `r`, `w`, `x`, or nothing.
pub(crate) fn access(address: usize) -> String {
    let mapping = mappings(address..address + 1);
    let mapping = mapping.first().expect("something is mapped there");
    [(mapping.read, 'r'), (mapping.write, 'w'), (mapping.execute, 'x')]
        .iter()
        .filter_map(|&(may, letter)| may.then_some(letter))
        .collect()
}

/// Asserts that no mapping of the process is writable and executable.
pub(crate) fn assert_write_xor_execute() {
    maps::each(|mapping| {
        assert!(!(mapping.write && mapping.execute), "{mapping:x?} is writable and executable")
    })
    .expect("the memory map can be read");
}
