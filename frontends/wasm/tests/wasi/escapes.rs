//! No path leads out of its directory, however it is written and whatever stands in its way.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dagwood_wasm::wasi::{Access, Errno, Resolution, WasiConfig};

use crate::harness::{ALL, CREAT, DIRECTORY, FOLLOW, Guest, READ, ROOT, Scratch, TRUNC, WRITE};

const RESOLUTIONS: [Resolution; 2] = [Resolution::Kernel, Resolution::Walk];

/// `outside/` with a file and a directory, and beside it `root/`, which is the program's, full of ways out.
fn prison() -> Scratch {
    let scratch = Scratch::new();
    scratch.dir("outside/dir");
    scratch.file("outside/secret", "secret");
    scratch.dir("root/dir/deep");
    scratch.file("root/file", "mine");
    let outside = scratch.path().join("outside");
    scratch.link(outside.join("secret"), "root/absolute-file");
    scratch.link(&outside, "root/absolute-dir");
    scratch.link(scratch.path().join("root/file"), "root/absolute-inside");
    scratch.link("../outside/secret", "root/relative-file");
    scratch.link("../outside", "root/relative-dir");
    scratch.link("..", "root/parent");
    scratch.link("dir/../../outside", "root/dir-around");
    scratch.link("../../outside", "root/dir/up-twice");
    scratch.link("relative-dir", "root/chain-1");
    scratch.link("./chain-1", "root/chain-2");
    scratch.link("../root/file", "root/out-and-back");
    scratch.link("/", "root/slash");
    scratch
}

fn prisoner(scratch: &Scratch, resolution: Resolution) -> Guest {
    let root = scratch.path().join("root");
    Guest::new(WasiConfig::new().preopen(root, "/", Access::ReadWrite).resolution(resolution))
}

/// Everything about the outside that a program could change.
fn outside(scratch: &Scratch) -> BTreeMap<PathBuf, (u64, u64, i64, i64, Option<String>)> {
    fn visit(at: &Path, seen: &mut BTreeMap<PathBuf, (u64, u64, i64, i64, Option<String>)>) {
        let stat = std::fs::symlink_metadata(at).unwrap();
        let text = stat.is_file().then(|| std::fs::read_to_string(at).unwrap());
        seen.insert(at.into(), (stat.ino(), stat.nlink(), stat.mtime(), stat.mtime_nsec(), text));
        if stat.is_dir() {
            std::fs::read_dir(at).unwrap().for_each(|entry| visit(&entry.unwrap().path(), seen));
        }
    }
    let mut seen = BTreeMap::new();
    visit(&scratch.path().join("outside"), &mut seen);
    seen
}

/// Paths to the secret, or to where it lies.
const FILES: [&str; 18] = [
    "../outside/secret",
    "dir/../../outside/secret",
    "./../outside/secret",
    "dir/deep/../../../outside/secret",
    "../root/../outside/secret",
    "absolute-file",
    "absolute-dir/secret",
    "relative-file",
    "relative-dir/secret",
    "parent/outside/secret",
    "dir-around/secret",
    "dir/up-twice/secret",
    "chain-1/secret",
    "chain-2/secret",
    "chain-2/./dir/../secret",
    "dir/../chain-2/secret",
    "slash/etc/passwd",
    "/etc/passwd",
];

/// Paths that end inside, but by way of the outside or of an absolute link.
const DETOURS: [&str; 4] = ["../root/file", "out-and-back", "absolute-inside", "parent/root/file"];

#[test]
fn no_path_out_opens_or_tells_anything() {
    let scratch = prison();
    let before = outside(&scratch);
    for resolution in RESOLUTIONS {
        for path in FILES.into_iter().chain(DETOURS) {
            let mut guest = prisoner(&scratch, resolution);
            let note = format!("{resolution:?} {path}");
            for (open_flags, rights) in
                [(0, READ), (0, WRITE), (CREAT, READ | WRITE), (TRUNC, WRITE), (DIRECTORY, READ), (0, ALL)]
            {
                assert_eq!(guest.open(path, open_flags, rights), Err(Errno::Notcapable), "{note}");
            }
            assert_eq!(guest.stat(path, FOLLOW), Err(Errno::Notcapable), "{note}");
            let [pointer, length] = guest.put(path);
            let args = [ROOT, FOLLOW, pointer, length, 1, 1, 5];
            assert_eq!(guest.call("path_filestat_set_times", &args), Errno::Notcapable, "{note}");
        }
    }
    assert_eq!(outside(&scratch), before);
}

/// Directories outside, to which names are added.
const DIRECTORIES: [&str; 10] = [
    "../outside",
    "dir/../../outside",
    "absolute-dir",
    "relative-dir",
    "parent/outside",
    "dir-around",
    "dir/up-twice",
    "chain-2",
    "slash/tmp",
    "/tmp",
];

#[test]
fn no_name_out_there_is_made_moved_linked_read_or_removed() {
    let scratch = prison();
    let before = outside(&scratch);
    for resolution in RESOLUTIONS {
        for directory in DIRECTORIES {
            let mut guest = prisoner(&scratch, resolution);
            let note = format!("{resolution:?} {directory}");
            let (new, secret, dir) =
                (format!("{directory}/new"), format!("{directory}/secret"), format!("{directory}/dir"));
            let refused = Errno::Notcapable;
            assert_eq!(guest.path_call("path_create_directory", &new), refused, "{note}");
            assert_eq!(guest.path_call("path_unlink_file", &secret), refused, "{note}");
            assert_eq!(guest.path_call("path_remove_directory", &dir), refused, "{note}");
            assert_eq!(guest.symlink("x", &new), refused, "{note}");
            assert_eq!(guest.readlink(&secret, 100), Err(refused), "{note}");
            assert_eq!(guest.stat(&secret, 0), Err(refused), "{note}");
            for name in ["path_rename", "path_link"] {
                assert_eq!(guest.two_path_call(name, "file", &new), refused, "out {note}");
                assert_eq!(guest.two_path_call(name, &secret, "stolen"), refused, "in {note}");
            }
        }
    }
    assert_eq!(outside(&scratch), before);
}

#[test]
fn the_parent_itself_is_out_of_reach() {
    let scratch = prison();
    let refused = Errno::Notcapable;
    for resolution in RESOLUTIONS {
        for path in ["..", "../", "dir/../..", "../.", "../..", "dir/../parent/.", "parent/.."] {
            let mut guest = prisoner(&scratch, resolution);
            let note = format!("{resolution:?} {path}");
            assert_eq!(guest.open(path, DIRECTORY, READ), Err(refused), "{note}");
            assert_eq!(guest.stat(path, FOLLOW), Err(refused), "{note}");
            assert_eq!(guest.stat(path, 0), Err(refused), "{note}");
            for name in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
                assert_eq!(guest.path_call(name, path), refused, "{name} {note}");
            }
            assert_eq!(guest.readlink(path, 10), Err(refused), "{note}");
            assert_eq!(guest.symlink("x", path), refused, "{note}");
            for name in ["path_rename", "path_link"] {
                assert_eq!(guest.two_path_call(name, "file", path), refused, "{name} {note}");
                assert_eq!(guest.two_path_call(name, path, "stolen"), refused, "{name} {note}");
            }
        }
    }
}

#[test]
fn a_slash_behind_a_link_out_does_not_help() {
    let scratch = prison();
    for resolution in RESOLUTIONS {
        let mut guest = prisoner(&scratch, resolution);
        for lookup in [0, FOLLOW] {
            assert_eq!(guest.stat("parent/", lookup), Err(Errno::Notcapable));
            let opened = guest.open_with((ROOT, "relative-dir/"), (lookup, 0, READ, 0));
            assert_eq!(opened, Err(Errno::Notcapable));
        }
        for name in ["path_remove_directory", "path_unlink_file"] {
            assert_eq!(guest.path_call(name, "relative-dir/"), Errno::Notdir);
        }
        assert_eq!(guest.path_call("path_create_directory", "relative-dir/"), Errno::Exist);
        assert_eq!(guest.symlink("x", "relative-dir/"), Errno::Notdir);
        assert_eq!(guest.two_path_call("path_link", "relative-file/", "stolen"), Errno::Notdir);
        assert_eq!(guest.two_path_call("path_rename", "dir", "relative-dir/"), Errno::Notdir);
        assert_eq!(guest.two_path_call("path_rename", "relative-dir/", "stolen"), Errno::Notdir);
    }
}

#[test]
fn an_opened_directory_is_no_better_a_start() {
    let scratch = prison();
    for resolution in RESOLUTIONS {
        let mut guest = prisoner(&scratch, resolution);
        let dir = guest.open("dir", DIRECTORY, ALL).unwrap();
        for path in ["..", "../file", "up-twice", "up-twice/secret", "deep/../../file"] {
            let opened = guest.open_with((dir, path), (FOLLOW, 0, READ, 0));
            assert_eq!(opened, Err(Errno::Notcapable), "{resolution:?} {path}");
        }
    }
}

#[test]
fn a_link_the_program_makes_itself_leads_nowhere() {
    let scratch = prison();
    for resolution in RESOLUTIONS {
        let mut guest = prisoner(&scratch, resolution);
        let name = format!("own-{resolution:?}");
        assert_eq!(guest.symlink("../outside", &name), Errno::Success);
        assert_eq!(guest.open(&format!("{name}/secret"), 0, READ), Err(Errno::Notcapable));
        assert_eq!(guest.two_path_call("path_rename", "file", &format!("{name}/file")), Errno::Notcapable);
        assert_eq!(guest.two_path_call("path_rename", &name, &format!("dir/{name}")), Errno::Success);
        assert_eq!(guest.open(&format!("dir/{name}/secret"), 0, READ), Err(Errno::Noent), "root/outside now");
    }
}

#[test]
fn magic_links_are_not_followed() {
    let secret = Scratch::new();
    secret.file("secret", "secret");
    let open = std::fs::File::open(secret.path()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&open);
    for resolution in RESOLUTIONS {
        let config = WasiConfig::new().preopen("/proc/self", "/", Access::ReadOnly).resolution(resolution);
        let mut guest = Guest::new(config);
        for path in ["root/etc/passwd", "cwd/Cargo.toml", "exe", &format!("fd/{number}/secret")] {
            let errno = guest.open(path, 0, READ).unwrap_err();
            assert!(matches!(errno, Errno::Loop | Errno::Notcapable), "{resolution:?} {path}: {errno}");
        }
        assert!(guest.open("status", 0, READ).is_ok(), "near miss");
    }
}

#[test]
fn a_directory_moved_out_while_open_does_not_take_the_way_back_along() {
    let scratch = prison();
    for resolution in RESOLUTIONS {
        let mut guest = prisoner(&scratch, resolution);
        let dir = guest.open("dir/deep", DIRECTORY, ALL).unwrap();
        let (inside, moved) = (scratch.path().join("root/dir/deep"), scratch.path().join("outside/moved"));
        std::fs::rename(&inside, &moved).unwrap();
        let opened = guest.open_with((dir, "../secret"), (FOLLOW, 0, READ, 0));
        assert_eq!(opened, Err(Errno::Notcapable), "{resolution:?}");
        std::fs::rename(&moved, &inside).unwrap();
    }
}

#[test]
fn exchanging_a_directory_for_a_link_wins_no_race() {
    for resolution in RESOLUTIONS {
        let scratch = prison();
        scratch.dir("root/swap");
        scratch.file("root/swap/secret", "harmless");
        let root = scratch.path().join("root");
        let stop = Arc::new(AtomicBool::new(false));
        let racer = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    std::fs::rename(root.join("swap"), root.join("aside")).unwrap();
                    std::os::unix::fs::symlink("../outside", root.join("swap")).unwrap();
                    std::fs::remove_file(root.join("swap")).unwrap();
                    std::fs::rename(root.join("aside"), root.join("swap")).unwrap();
                }
            }
        });
        let mut guest = prisoner(&scratch, resolution);
        for _ in 0..2000 {
            guest.forget();
            if let Ok(fd) = guest.open("swap/secret", 0, READ) {
                assert_eq!(guest.read(fd, 20).as_deref(), Ok("harmless"));
                guest.ok("fd_close", &[fd]);
            }
            let _ = guest.path_call("path_create_directory", "swap/planted");
            let _ = guest.path_call("path_remove_directory", "swap/planted");
        }
        stop.store(true, Ordering::Relaxed);
        racer.join().unwrap();
        assert!(guest.open("swap/secret", 0, READ).is_ok(), "near miss");
        assert!(!scratch.path().join("outside/planted").exists());
        assert_eq!(scratch.read("outside/secret"), "secret");
    }
}
