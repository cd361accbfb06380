//! What the code must look like, as far as a program can tell.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines a file may have. Two thirds of it reads better.
const MAX_FILE_LINES: usize = 900;
/// Characters a line may have; the formatter breaks code sooner.
const MAX_LINE: usize = 160;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every file below `folder` with one of the extensions, by name.
fn files(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the tree can be listed")
        .map(|entry| entry.expect("an entry can be read").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                files(&path, extensions, found);
            }
        } else if path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|e| extensions.contains(&e))
        {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(root(), &["rs"], &mut found);
    assert!(found.len() > 20, "the tree has sources");
    found
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(path).expect("sources are UTF-8")))
        .collect()
}

#[test]
fn files_and_lines_are_short_enough_to_read() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= MAX_FILE_LINES, "{} has {lines} lines; split it along its parts", path.display());
        for (number, line) in text.lines().enumerate() {
            let length = line.chars().count();
            assert!(length <= MAX_LINE, "{}:{}: {length} characters", path.display(), number + 1);
        }
    }
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} does not begin with its documentation", path.display());
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Split so that this file does not find itself.
    let banned = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("dbg", "!("),
    ];
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for word in banned {
                assert!(!line.contains(word), "{}:{}: `{word}`", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_map_names_only_what_exists() {
    for map in ["DESIGN.md", "README.md"] {
        let text = fs::read_to_string(root().join(map)).unwrap_or_else(|error| panic!("{map}: {error}"));
        for name in text.split('`').skip(1).step_by(2) {
            let is_path = name.contains('/')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
                && !name.starts_with("target/")
                && !name.starts_with("../")
                && !name.starts_with('/');
            assert!(!is_path || root().join(name).exists(), "{map} names `{name}`, which is not there");
        }
    }
}
