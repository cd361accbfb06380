//! What gdb and perf see of code, with the real programs where they are installed.
//!
//! A test runs this program again under the tool, as one of the ignored tests, which places code and runs it.

mod code;
#[cfg(feature = "gdb")]
mod gdb;
mod perf;

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Says why a test shows nothing here, also where the output of tests that pass is captured.
fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Whether `program` can be run at all; says so if not.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// The arguments with which this program runs the ignored test `name` only.
fn arguments_of(name: &str) -> [&str; 5] {
    [name, "--exact", "--ignored", "--nocapture", "--test-threads=1"]
}

/// A new directory; dropping it removes it with what is in it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("dagwood-seen-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
