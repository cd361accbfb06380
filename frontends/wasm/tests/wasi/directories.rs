//! Descriptors of directories: preopened ones, read-only ones, listing.

use dagwood_wasm::wasi::{Access, Errno, WasiConfig};

use crate::harness::{ALL, CREAT, DIRECTORY, FOLLOW, Guest, READ, ROOT, Scratch, TRUNC, WRITE};

#[test]
fn a_read_only_directory_stays_as_it_is() {
    let scratch = Scratch::new();
    scratch.file("file", "text");
    scratch.dir("dir");
    let mut guest = Guest::new(WasiConfig::new().preopen(scratch.path(), "/", Access::ReadOnly));
    assert_eq!(guest.open("file", 0, READ | WRITE), Err(Errno::Notcapable));
    assert_eq!(guest.open("new", CREAT, READ), Err(Errno::Notcapable));
    assert_eq!(guest.open("file", TRUNC, READ), Err(Errno::Notcapable));
    for name in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
        assert_eq!(guest.path_call(name, "dir"), Errno::Notcapable, "{name}");
    }
    for name in ["path_rename", "path_link"] {
        assert_eq!(guest.two_path_call(name, "file", "other"), Errno::Notcapable, "{name}");
    }
    assert_eq!(guest.symlink("file", "link"), Errno::Notcapable);
    let [path, length] = guest.put("file");
    assert_eq!(guest.call("path_filestat_set_times", &[ROOT, 0, path, length, 1, 1, 5]), Errno::Notcapable);
    let fd = guest.open("file", 0, READ).unwrap();
    assert_eq!(guest.read(fd, 10).as_deref(), Ok("text"));
    assert_eq!(guest.call("fd_filestat_set_times", &[fd, 1, 1, 5]), Errno::Notcapable);
    let dir = guest.open("dir", DIRECTORY, ALL).unwrap();
    let create = guest.open_with((dir, "new"), (FOLLOW, CREAT, READ, 0));
    assert_eq!(create, Err(Errno::Notcapable), "rights do not grow on the way down");
}

#[test]
fn preopened_directories_tell_their_names() {
    let scratch = Scratch::new();
    let config = WasiConfig::new().preopen(scratch.path(), "/data", Access::ReadWrite).preopen(
        scratch.path(),
        ".",
        Access::ReadOnly,
    );
    let mut guest = Guest::new(config);
    let out = guest.take(16);
    for (fd, name) in [(3, "/data"), (4, ".")] {
        guest.ok("fd_prestat_get", &[fd, out]);
        assert_eq!((guest.u32(out), guest.u32(out + 4) as usize), (0, name.len()));
        guest.ok("fd_prestat_dir_name", &[fd, out + 8, name.len() as u64]);
        assert_eq!(guest.bytes(out + 8, name.len()), name.as_bytes());
    }
    assert_eq!(guest.call("fd_prestat_dir_name", &[3, out, 4]), Errno::Nametoolong);
    assert_eq!(guest.call("fd_prestat_dir_name", &[3, ALL, 5]), Errno::Fault);
    assert_eq!(guest.call("fd_prestat_get", &[5, out]), Errno::Badf);
    assert_eq!(guest.call("fd_prestat_get", &[ALL, out]), Errno::Badf);
}

#[test]
fn a_listing_is_whole_whatever_the_buffer() {
    let scratch = Scratch::new();
    let mut expected: Vec<String> = (0..100).map(|index| format!("file-{index:03}")).collect();
    expected.iter().for_each(|name| scratch.file(name, ""));
    scratch.dir("sub");
    expected.extend([".", "..", "sub"].map(String::from));
    expected.sort();
    for size in [64, 100, 333, 4096] {
        let mut guest = Guest::at(&scratch);
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let (entries, is_full) = guest.list(ROOT, size, cookie);
            for (name, file_type, next) in entries {
                assert_eq!(file_type, if name.starts_with("file") { 4 } else { 3 });
                names.push(name);
                cookie = next;
            }
            if !is_full {
                break;
            }
        }
        names.sort();
        assert_eq!(names, expected, "with {size} bytes");
    }
    let mut guest = Guest::at(&scratch);
    let file = guest.open("file-000", 0, READ).unwrap();
    let out = guest.take(64);
    assert_eq!(guest.call("fd_readdir", &[file, out, 32, 0, out]), Errno::Notdir);
    assert_eq!(guest.call("fd_readdir", &[ROOT, out, 32, ALL, out]), Errno::Inval);
    assert_eq!(guest.call("fd_readdir", &[ROOT, out, ALL, 0, out]), Errno::Fault);
}

#[test]
fn a_listing_does_not_tell_what_is_above() {
    let scratch = Scratch::new();
    let mut guest = Guest::at(&scratch);
    let (buffer, out) = (guest.take(256), guest.take(4));
    guest.ok("fd_readdir", &[ROOT, buffer, 256, 0, out]);
    assert_eq!(guest.u32(out), 2 * 24 + 3, "two entries, `.` and `..`");
    let second = buffer + 24 + u64::from(guest.u32(buffer + 16));
    assert_eq!(guest.u64(buffer + 8), guest.u64(second + 8), "the same inode");
}

#[test]
fn a_directory_is_not_a_file() {
    let scratch = Scratch::new();
    let mut guest = Guest::at(&scratch);
    let out = guest.take(64);
    assert_eq!(guest.read(ROOT, 1), Err(Errno::Isdir));
    assert_eq!(guest.write(ROOT, "x"), Err(Errno::Isdir));
    assert_eq!(guest.call("fd_seek", &[ROOT, 0, 0, out]), Errno::Isdir);
    guest.ok("fd_filestat_get", &[ROOT, out]);
    assert_eq!(guest.memory[out as usize + 16], 3);
}
