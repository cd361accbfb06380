//! Operations on names: directories, links, renaming, removing, times and stat by path.

use dagwood_wasm::wasi::{Access, Errno, MAX_DEPTH, MAX_PATH_BYTES, MAX_SYMLINKS, Resolution, WasiConfig};

use crate::harness::{ALL, CREAT, DIRECTORY, FOLLOW, Guest, READ, ROOT, Scratch, WRITE};

/// A directory, a file, a link to it, and a program for each way to resolve paths.
fn each_resolution(test: impl Fn(&Scratch, &mut Guest)) {
    for resolution in [Resolution::Kernel, Resolution::Walk] {
        let scratch = Scratch::new();
        scratch.dir("dir/sub");
        scratch.file("dir/file", "text");
        scratch.link("dir/file", "link");
        scratch.link("dir", "dirlink");
        let config = WasiConfig::new().preopen(scratch.path(), "/", Access::ReadWrite).resolution(resolution);
        test(&scratch, &mut Guest::new(config));
    }
}

#[test]
fn directories_are_made_and_removed() {
    each_resolution(|scratch, guest| {
        assert_eq!(guest.path_call("path_create_directory", "new"), Errno::Success);
        assert_eq!(guest.path_call("path_create_directory", "new/deep/"), Errno::Success);
        assert_eq!(guest.path_call("path_create_directory", "new"), Errno::Exist);
        assert_eq!(guest.path_call("path_create_directory", "."), Errno::Exist);
        assert_eq!(guest.path_call("path_create_directory", "missing/new"), Errno::Noent);
        assert_eq!(guest.path_call("path_create_directory", "dir/file/new"), Errno::Notdir);
        assert_eq!(guest.path_call("path_remove_directory", "new"), Errno::Notempty);
        assert_eq!(guest.path_call("path_remove_directory", "new/deep/"), Errno::Success);
        assert_eq!(guest.path_call("path_remove_directory", "new"), Errno::Success);
        assert_eq!(guest.path_call("path_remove_directory", "new"), Errno::Noent);
        assert_eq!(guest.path_call("path_remove_directory", "dir/file"), Errno::Notdir);
        assert_eq!(guest.path_call("path_remove_directory", "dirlink"), Errno::Notdir);
        assert!(scratch.path().join("dir").exists());
    });
}

#[test]
fn files_are_removed_and_links_with_them_not_what_they_lead_to() {
    each_resolution(|scratch, guest| {
        assert_eq!(guest.path_call("path_unlink_file", "link"), Errno::Success);
        assert_eq!(scratch.read("dir/file"), "text");
        assert_eq!(guest.path_call("path_unlink_file", "dir/file/"), Errno::Notdir);
        assert_eq!(guest.path_call("path_unlink_file", "dir/sub"), Errno::Isdir);
        assert_eq!(guest.path_call("path_unlink_file", "dir/sub/"), Errno::Isdir);
        assert_eq!(guest.path_call("path_unlink_file", "dirlink/file"), Errno::Success);
        assert_eq!(guest.path_call("path_unlink_file", "dir/file"), Errno::Noent);
    });
}

#[test]
fn renaming_replaces_files_and_respects_directories() {
    each_resolution(|scratch, guest| {
        scratch.file("other", "other");
        assert_eq!(guest.two_path_call("path_rename", "other", "dir/file"), Errno::Success);
        assert_eq!(scratch.read("dir/file"), "other");
        assert_eq!(guest.two_path_call("path_rename", "dir/file/", "x"), Errno::Notdir);
        assert_eq!(guest.two_path_call("path_rename", "dir/file", "x/"), Errno::Notdir);
        assert_eq!(guest.two_path_call("path_rename", "dir", "dir/sub/x"), Errno::Inval);
        assert_eq!(guest.two_path_call("path_rename", "dir/sub/", "moved/"), Errno::Success);
        assert!(scratch.path().join("moved").is_dir());
        assert_eq!(guest.two_path_call("path_rename", "link", "link2"), Errno::Success);
        assert!(scratch.path().join("link2").is_symlink());
        assert_eq!(guest.two_path_call("path_rename", "missing", "x"), Errno::Noent);
        assert_eq!(guest.two_path_call("path_rename", ".", "x"), Errno::Busy);
    });
}

#[test]
fn hard_links_share_a_file() {
    each_resolution(|scratch, guest| {
        assert_eq!(guest.two_path_call("path_link", "dir/file", "hard"), Errno::Success);
        assert_eq!(scratch.read("hard"), "text");
        let stat = guest.stat("hard", 0).unwrap();
        assert_eq!(guest.u64(stat + 24), 2);
        assert_eq!(guest.two_path_call("path_link", "dir/file", "hard"), Errno::Exist);
        assert_eq!(guest.two_path_call("path_link", "dir/file", "hard2/"), Errno::Noent);
        assert_eq!(guest.two_path_call("path_link", "dir/file/", "hard2"), Errno::Notdir);
        assert_eq!(guest.two_path_call("path_link", "dir", "hard2"), Errno::Perm);
        assert_eq!(guest.two_path_call("path_link", "link", "hardlink"), Errno::Success);
        assert!(scratch.path().join("hardlink").is_symlink(), "a link to the link itself");
        let [path, length] = guest.put("link");
        let args = [ROOT, FOLLOW, path, length, ROOT, path, length];
        assert_eq!(guest.call("path_link", &args), Errno::Inval);
    });
}

#[test]
fn symbolic_links_are_made_read_and_followed() {
    each_resolution(|scratch, guest| {
        assert_eq!(guest.symlink("../file", "dir/sub/up"), Errno::Success);
        assert_eq!(guest.readlink("dir/sub/up", 100).as_deref(), Ok("../file"));
        assert_eq!(guest.readlink("dir/sub/up", 3).as_deref(), Ok("../"));
        assert_eq!(guest.readlink("dir/sub/up", 0).as_deref(), Ok(""));
        assert_eq!(guest.readlink("dir/file", 10), Err(Errno::Inval));
        assert_eq!(guest.readlink("dir/file", 0), Err(Errno::Inval));
        assert_eq!(guest.readlink("dirlink/", 10), Err(Errno::Notdir));
        let fd = guest.open("dir/sub/up", 0, READ).unwrap();
        assert_eq!(guest.read(fd, 10).as_deref(), Ok("text"));
        assert_eq!(guest.symlink("x", "link"), Errno::Exist);
        assert_eq!(guest.symlink("x", "fresh/"), Errno::Noent);
        assert_eq!(guest.symlink("", "fresh"), Errno::Noent);
        assert_eq!(guest.symlink("a\0b", "fresh"), Errno::Inval);
        assert_eq!(guest.symlink("/etc", "fresh"), Errno::Notcapable);
        assert!(!scratch.path().join("fresh").is_symlink());
    });
}

#[test]
fn opening_follows_a_last_link_only_when_asked() {
    each_resolution(|scratch, guest| {
        let open = |guest: &mut Guest, lookup| guest.open_with((ROOT, "link"), (lookup, 0, READ, 0));
        assert!(open(guest, FOLLOW).is_ok());
        assert_eq!(open(guest, 0), Err(Errno::Loop));
        scratch.link("made-through-a-link", "dangling");
        assert_eq!(guest.open("dangling", 0, READ), Err(Errno::Noent));
        assert!(guest.open("dangling", CREAT, WRITE).is_ok());
        assert!(scratch.path().join("made-through-a-link").exists());
        scratch.link("loop", "loop");
        assert_eq!(guest.open("loop", 0, READ), Err(Errno::Loop));
        assert!(guest.open("dirlink/sub", DIRECTORY, READ).is_ok());
        assert!(guest.open("dirlink/", DIRECTORY, READ).is_ok());
        assert_eq!(guest.open("link/", 0, READ), Err(Errno::Notdir));
        assert_eq!(guest.open("new/", CREAT, WRITE), Err(Errno::Isdir));
    });
}

#[test]
fn dots_and_slashes_mean_what_they_mean() {
    each_resolution(|_, guest| {
        for path in [
            "dir/file",
            "./dir//file",
            "dir/./file",
            "dir/sub/../file",
            "dir/sub/../../dir/file",
            "dirlink/sub/../file",
            "./././link",
        ] {
            assert!(guest.open(path, 0, READ).is_ok(), "{path}");
        }
        for path in [".", "./", "dir/..", "dir/sub/../..", "dirlink/.", "dirlink/.."] {
            assert!(guest.open(path, DIRECTORY, READ).is_ok(), "{path}");
            assert_eq!(guest.stat(path, 0).map(|stat| guest.memory[stat as usize + 16]), Ok(3), "{path}");
        }
        assert_eq!(guest.open("dir/file/.", 0, READ), Err(Errno::Notdir));
        assert_eq!(guest.open("dir/file/..", 0, READ), Err(Errno::Notdir));
    });
}

#[test]
fn stat_and_times_by_name_follow_when_asked() {
    each_resolution(|_, guest| {
        let stat = guest.stat("link", 0).unwrap();
        assert_eq!((guest.memory[stat as usize + 16], guest.u64(stat + 32)), (7, 8));
        let stat = guest.stat("link", FOLLOW).unwrap();
        assert_eq!((guest.memory[stat as usize + 16], guest.u64(stat + 32)), (4, 4));
        let [path, length] = guest.put("link");
        guest.ok("path_filestat_set_times", &[ROOT, FOLLOW, path, length, 5, 6, 1 | 4]);
        guest.ok("path_filestat_set_times", &[ROOT, 0, path, length, 7, 8, 1 | 4]);
        let target = guest.stat("dir/file", 0).unwrap();
        assert_eq!((guest.u64(target + 40), guest.u64(target + 48)), (5, 6));
        let link = guest.stat("link", 0).unwrap();
        assert_eq!(guest.u64(link + 48), 8);
        assert_eq!(guest.stat("missing", 0), Err(Errno::Noent));
        assert_eq!(guest.stat("link", 2), Err(Errno::Inval));
    });
}

#[test]
fn paths_are_bounded_and_not_empty() {
    each_resolution(|_, guest| {
        assert_eq!(guest.open("", 0, READ), Err(Errno::Noent));
        assert_eq!(guest.open("a\0b", 0, READ), Err(Errno::Inval));
        assert_eq!(guest.open(&"x/".repeat(MAX_PATH_BYTES / 2), 0, READ), Err(Errno::Nametoolong));
        assert_eq!(guest.open(&"x".repeat(256), 0, READ), Err(Errno::Nametoolong));
        assert!(guest.open(&"./".repeat(MAX_PATH_BYTES / 2 - 1), DIRECTORY, READ).is_ok());
        let out = guest.take(4);
        assert_eq!(guest.call("path_open", &[ROOT, 0, 0, ALL, 0, READ, 0, 0, out]), Errno::Fault);
        assert_eq!(guest.call("path_open", &[ROOT, 0, ALL, 1, 0, READ, 0, 0, out]), Errno::Fault);
        let file = guest.open("dir/file", 0, READ).unwrap();
        assert_eq!(guest.open_with((file, "x"), (0, 0, READ, 0)), Err(Errno::Notdir));
        assert_eq!(guest.open_with((99, "x"), (0, 0, READ, 0)), Err(Errno::Badf));
    });
}

#[test]
fn chains_of_links_end_at_the_limit() {
    each_resolution(|scratch, guest| {
        scratch.link("dir/file", "link-1");
        (2..=MAX_SYMLINKS + 1).for_each(|n| scratch.link(format!("link-{}", n - 1), &format!("link-{n}")));
        assert!(guest.open(&format!("link-{MAX_SYMLINKS}"), 0, READ).is_ok(), "near miss");
        assert_eq!(guest.open(&format!("link-{}", MAX_SYMLINKS + 1), 0, READ), Err(Errno::Loop));
    });
}

#[test]
fn walking_ends_at_its_depth_where_the_kernel_goes_on() {
    let scratch = Scratch::new();
    let (near, deep) = ("d/".repeat(MAX_DEPTH), "d/".repeat(MAX_DEPTH + 1));
    scratch.dir(&format!("{deep}d"));
    let expected = [(Resolution::Kernel, Ok(3)), (Resolution::Walk, Err(Errno::Nametoolong))];
    for (resolution, expected) in expected {
        let config = WasiConfig::new().preopen(scratch.path(), "/", Access::ReadWrite).resolution(resolution);
        let mut guest = Guest::new(config);
        let mut file_type = |path: &str| guest.stat(path, 0).map(|stat| guest.memory[stat as usize + 16]);
        assert_eq!(file_type(&format!("{near}d")), Ok(3));
        assert_eq!(file_type(&format!("{deep}d")), expected);
    }
}
