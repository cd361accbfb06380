//! Runs every text test below `filetests`. `DAGWOOD_FILETEST=name` runs those whose path holds the name.

use std::fs;
use std::path::{Path, PathBuf};

use dagwood_runtime::codespace::{Options as Space, Placement};

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "dag") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_holds_what_it_claims() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests");
    let filter = std::env::var("DAGWOOD_FILETEST").unwrap_or_default();
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    files.retain(|file| file.to_string_lossy().contains(&filter));
    assert!(!files.is_empty(), "there are text tests");
    let failures: Vec<String> = files
        .iter()
        .filter_map(|file| {
            let source = fs::read_to_string(file).expect("a test is UTF-8");
            let name = file.strip_prefix(&root).unwrap_or(file).display();
            dagwood_tests::runner::run(&source).err().map(|what| format!("{name}: {what}"))
        })
        .collect();
    println!("{} files, {} fail", files.len(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn code_far_from_the_program_does_the_same() {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests/run"), &mut files);
    files.sort();
    // A terabyte away, so that nothing of the program is in reach.
    let far = Placement::Near(collect as *const () as usize ^ 1 << 40);
    for placement in [Placement::Anywhere, far] {
        let space = Space { placement, ..Space::default() };
        for file in &files {
            let source = fs::read_to_string(file).expect("a test is UTF-8");
            let ran = dagwood_tests::runner::run_in(&source, &space);
            assert!(ran.is_ok(), "{}, {placement:?}: {ran:?}", file.display());
        }
    }
}

#[test]
fn every_operation_is_in_some_test_that_runs() {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests/run"), &mut files);
    let text: String = files.iter().map(|file| fs::read_to_string(file).expect("a test is UTF-8")).collect();
    let code = text.lines().map(|line| line.split(';').next().unwrap_or_default());
    let words: std::collections::BTreeSet<&str> =
        code.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')).collect();
    let missing: Vec<&str> =
        dagwood_il::Opcode::all().map(|opcode| opcode.name()).filter(|name| !words.contains(name)).collect();
    assert!(missing.is_empty(), "no test runs {missing:?}");
}
