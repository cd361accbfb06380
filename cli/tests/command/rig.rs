//! Runs the built command on files of the tree and on files that a test writes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The exit code of a trap.
pub(crate) const TRAPPED: i32 = 134;
/// Both engines, as options.
pub(crate) const ENGINES: [&[&str]; 2] = [&[], &["--interpret"]];

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Ended {
        let text = |bytes| String::from_utf8(bytes).expect("the command writes UTF-8");
        let code = output.status.code().expect("no signal ended the command");
        let ended = Ended { code, out: text(output.stdout), err: text(output.stderr) };
        assert!(!ended.err.contains("panicked"), "{ended:?}");
        ended
    }

    /// That it ended well; what it printed.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert!(self.code == 0 && self.err.is_empty(), "{self:?}");
        self.out
    }

    /// That it ended with this code, and said all of this on standard error.
    #[track_caller]
    pub(crate) fn badly(self, code: i32, said: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for part in said {
            assert!(self.err.contains(part), "{part}: {self:?}");
        }
    }
}

/// The root of the tree, in which commands run.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the tree is there")
}

/// The command, with nothing to read.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dagwood"));
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs the command.
pub(crate) fn dagwood(arguments: &[&str]) -> Ended {
    Ended::of(command(arguments).output().expect("the command starts"))
}

/// Runs `dagwood run` in both engines, which must end alike; `before` and `after` stand around the choice.
#[track_caller]
pub(crate) fn both(arguments: &[&str]) -> Ended {
    let [native, interpreted] = ENGINES.map(|engine| dagwood(&[&["run"], engine, arguments].concat()));
    assert_eq!(
        (native.code, &native.out),
        (interpreted.code, &interpreted.out),
        "{native:?} {interpreted:?}"
    );
    native
}

/// A directory of a test's own.
pub(crate) fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("command-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).expect("the build's directory can be written");
    path
}

/// Writes a file for a test; its path.
pub(crate) fn file(name: &str, contents: impl AsRef<[u8]>) -> String {
    let path = directory().join(name);
    std::fs::write(&path, contents).expect("the build's directory can be written");
    path.into_os_string().into_string().expect("the build's directory has a name in UTF-8")
}
