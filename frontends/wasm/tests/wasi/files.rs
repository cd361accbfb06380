//! Descriptors of files: reading, writing, positions, rights, sizes, times.

use dagwood_wasm::wasi::{Errno, MAX_DESCRIPTORS};

use crate::harness::{
    ALL, ANY, APPEND, CREAT, DIRECTORY, EXCL, FOLLOW, Guest, NONBLOCK, READ, ROOT, Scratch, TRUNC, WRITE,
};

#[test]
fn what_is_written_can_be_read_back() {
    let scratch = Scratch::new();
    let mut guest = Guest::at(&scratch);
    let fd = guest.open("new", CREAT, READ | WRITE).unwrap();
    assert_eq!(fd, 4, "the lowest free number");
    assert_eq!(guest.write(fd, "hello world"), Ok(11));
    let out = guest.take(8);
    guest.ok("fd_seek", &[fd, 6, 0, out]);
    assert_eq!(guest.read(fd, 100).as_deref(), Ok("world"));
    assert_eq!(guest.read(fd, 100).as_deref(), Ok(""));
    for name in ["fd_sync", "fd_datasync", "fd_close"] {
        guest.ok(name, &[fd]);
    }
    assert_eq!(scratch.read("new"), "hello world");
    assert_eq!(guest.call("fd_close", &[fd]), Errno::Badf);
    assert_eq!(guest.open("new", 0, READ), Ok(fd), "the number is free again");
}

#[test]
fn positions_go_where_they_are_sent() {
    let scratch = Scratch::new();
    scratch.file("file", "0123456789");
    let mut guest = Guest::at(&scratch);
    let fd = guest.open("file", 0, READ).unwrap();
    let out = guest.take(8);
    let steps = [(4, 0, 4), (2, 1, 6), (-1i64 as u64, 1, 5), (-3i64 as u64, 2, 7), (5, 2, 15), (0, 1, 15)];
    for (offset, whence, expected) in steps {
        guest.ok("fd_seek", &[fd, offset, whence, out]);
        assert_eq!(guest.u64(out), expected);
        guest.ok("fd_tell", &[fd, out]);
        assert_eq!(guest.u64(out), expected);
    }
    assert_eq!(guest.call("fd_seek", &[fd, -1i64 as u64, 0, out]), Errno::Inval);
    assert_eq!(guest.call("fd_seek", &[fd, 0, 3, out]), Errno::Inval);
    assert_eq!(guest.call("fd_seek", &[fd, 0, 0, ALL]), Errno::Fault);
    guest.ok("fd_tell", &[fd, out]);
    assert_eq!(guest.u64(out), 15, "failed seeks move nothing");
}

#[test]
fn reading_and_writing_at_an_offset_leaves_the_position() {
    let scratch = Scratch::new();
    scratch.file("file", "0123456789");
    let mut guest = Guest::at(&scratch);
    let fd = guest.open("file", 0, READ | WRITE).unwrap();
    let (one, two, out) = (guest.take(2), guest.take(4), guest.take(8));
    let iovecs = guest.iovecs(&[[one, 2], [two, 4]]);
    guest.ok("fd_pread", &[fd, iovecs, 2, 5, out]);
    assert_eq!((guest.u32(out), guest.bytes(one, 2), guest.bytes(two, 4)), (5, &b"56"[..], &b"789\0"[..]));
    guest.ok("fd_pwrite", &[fd, iovecs, 2, 1, out]);
    assert_eq!(guest.u32(out), 6);
    guest.ok("fd_tell", &[fd, out]);
    assert_eq!(guest.u64(out), 0);
    assert_eq!(scratch.read("file"), "056789\x00789");
    for offset in [1 << 63, ALL] {
        assert_eq!(guest.call("fd_pread", &[fd, iovecs, 2, offset, out]), Errno::Inval);
        assert_eq!(guest.call("fd_pwrite", &[fd, iovecs, 2, offset, out]), Errno::Inval);
    }
}

#[test]
fn a_large_file_moves_whole() {
    let scratch = Scratch::new();
    let mut guest = Guest::at(&scratch);
    guest.memory.resize(20 << 20, 0);
    guest.memory[1 << 20..].iter_mut().enumerate().for_each(|(index, byte)| *byte = (index % 251) as u8);
    let fd = guest.open("big", CREAT, READ | WRITE).unwrap();
    let iovecs = guest.iovecs(&[[1 << 20, 19 << 20]]);
    let out = guest.take(8);
    guest.ok("fd_write", &[fd, iovecs, 1, out]);
    assert_eq!(guest.u32(out), 19 << 20);
    let before = guest.memory[1 << 20..].to_vec();
    guest.memory[1 << 20..].fill(0);
    guest.ok("fd_pread", &[fd, iovecs, 1, 0, out]);
    assert_eq!(guest.u32(out), 19 << 20);
    assert!(guest.memory[1 << 20..] == before[..]);
}

#[test]
fn open_flags_create_truncate_and_insist() {
    let scratch = Scratch::new();
    scratch.file("file", "old");
    scratch.dir("dir");
    let mut guest = Guest::at(&scratch);
    assert_eq!(guest.open("missing", 0, READ), Err(Errno::Noent));
    assert_eq!(guest.open("file", CREAT | EXCL, WRITE), Err(Errno::Exist));
    assert!(guest.open("fresh", CREAT | EXCL, WRITE).is_ok());
    assert_eq!(guest.open("file", DIRECTORY, READ), Err(Errno::Notdir));
    assert_eq!(guest.open("dir", 0, WRITE), Err(Errno::Isdir));
    assert_eq!(guest.open("dir", DIRECTORY | CREAT, READ), Err(Errno::Inval));
    assert_eq!(guest.open("file", 16, READ), Err(Errno::Inval));
    assert_eq!(guest.open_with((ROOT, "file"), (2, 0, READ, 0)), Err(Errno::Inval));
    assert_eq!(guest.open_with((ROOT, "file"), (FOLLOW, 0, READ, 32)), Err(Errno::Inval));
    assert!(guest.open("dir", DIRECTORY, ALL).is_ok(), "all rights to a directory");
    assert!(guest.open("dir", 0, READ).is_ok());
    assert!(guest.open("file", TRUNC, WRITE).is_ok());
    assert_eq!(scratch.read("file"), "");
}

#[test]
fn appending_goes_to_the_end_and_can_be_switched() {
    let scratch = Scratch::new();
    scratch.file("log", "a");
    let mut guest = Guest::at(&scratch);
    let fd = guest.open_with((ROOT, "log"), (FOLLOW, 0, WRITE | ANY, APPEND)).unwrap();
    assert_eq!(guest.write(fd, "b"), Ok(1));
    assert_eq!(scratch.read("log"), "ab");
    guest.ok("fd_fdstat_set_flags", &[fd, NONBLOCK]);
    let out = guest.take(24);
    guest.ok("fd_seek", &[fd, 0, 0, out]);
    assert_eq!(guest.write(fd, "X"), Ok(1));
    assert_eq!(scratch.read("log"), "Xb");
    guest.ok("fd_fdstat_get", &[fd, out]);
    assert_eq!(u64::from(guest.u16(out + 2)), NONBLOCK);
    assert_eq!(guest.call("fd_fdstat_set_flags", &[fd, 16]), Errno::Notsup);
    assert_eq!(guest.call("fd_fdstat_set_flags", &[fd, 32]), Errno::Inval);
}

#[test]
fn a_file_opened_one_way_is_not_used_the_other() {
    let scratch = Scratch::new();
    scratch.file("file", "text");
    let mut guest = Guest::at(&scratch);
    let reader = guest.open("file", 0, READ).unwrap();
    let writer = guest.open("file", 0, WRITE).unwrap();
    assert_eq!(guest.write(reader, "x"), Err(Errno::Badf));
    assert_eq!(guest.read(writer, 1), Err(Errno::Badf));
    assert_eq!(guest.call("fd_filestat_set_size", &[reader, 0]), Errno::Notcapable);
    assert_eq!(guest.call("fd_allocate", &[reader, 0, 10]), Errno::Notcapable);
    assert_eq!(scratch.read("file"), "text");
}

#[test]
fn rights_can_be_given_up_and_not_regained() {
    let scratch = Scratch::new();
    scratch.file("file", "text");
    let mut guest = Guest::at(&scratch);
    let fd = guest.open("file", 0, READ | WRITE).unwrap();
    guest.ok("fd_fdstat_set_rights", &[fd, READ & 0xff, 0]);
    assert_eq!(guest.write(fd, "x"), Err(Errno::Badf));
    assert_eq!(guest.read(fd, 1).as_deref(), Ok("t"));
    assert_eq!(guest.call("fd_fdstat_set_rights", &[fd, READ | WRITE, 0]), Errno::Notcapable);
    let out = guest.take(8);
    assert_eq!(guest.call("fd_seek", &[fd, 1, 0, out]), Errno::Notcapable);
    guest.ok("fd_fdstat_set_rights", &[fd, 0, 0]);
    assert_eq!(guest.call("fd_sync", &[fd]), Errno::Notcapable);
}

#[test]
fn sizes_and_times_change_as_asked() {
    let scratch = Scratch::new();
    scratch.file("file", "0123456789");
    let mut guest = Guest::at(&scratch);
    let fd = guest.open("file", 0, READ | WRITE | ALL).unwrap();
    let out = guest.take(64);
    guest.ok("fd_filestat_set_size", &[fd, 4]);
    assert_eq!(scratch.read("file"), "0123");
    guest.ok("fd_allocate", &[fd, 0, 100]);
    guest.ok("fd_filestat_set_times", &[fd, 1_500_000_000_000_000_001, 7, 1 | 4]);
    guest.ok("fd_filestat_get", &[fd, out]);
    assert_eq!((guest.memory[out as usize + 16], guest.u64(out + 24), guest.u64(out + 32)), (4, 1, 100));
    assert_eq!((guest.u64(out + 40), guest.u64(out + 48)), (1_500_000_000_000_000_001, 7));
    guest.ok("fd_filestat_set_times", &[fd, 0, 0, 8]);
    guest.ok("fd_filestat_get", &[fd, out]);
    assert_eq!(guest.u64(out + 40), 1_500_000_000_000_000_001, "left as it is");
    assert!(guest.u64(out + 48) > 1_600_000_000_000_000_000, "now");
    assert_eq!(guest.call("fd_filestat_set_times", &[fd, 0, 0, 3]), Errno::Inval);
    assert_eq!(guest.call("fd_filestat_set_times", &[fd, 0, 0, 16]), Errno::Inval);
    assert_eq!(guest.call("fd_filestat_set_size", &[fd, ALL]), Errno::Inval);
    assert_eq!(guest.call("fd_allocate", &[fd, ALL, 1]), Errno::Inval);
    assert_eq!(guest.call("fd_advise", &[fd, 0, 10, 6]), Errno::Inval);
    assert_eq!(guest.call("fd_advise", &[fd, ALL, 10, 0]), Errno::Inval);
    (0..6).for_each(|advice| guest.ok("fd_advise", &[fd, 0, 0, advice]));
}

#[test]
fn a_pipe_in_a_directory_does_not_hang_whoever_opens_it() {
    let scratch = Scratch::new();
    let path = scratch.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let mut guest = Guest::at(&scratch);
    assert_eq!(guest.open("pipe", 0, WRITE), Err(Errno::Nxio), "nobody reads");
    let reader = guest.open("pipe", 0, READ).unwrap();
    assert_eq!(guest.read(reader, 10).as_deref(), Ok(""), "nobody writes");
    let writer = guest.open("pipe", 0, WRITE).unwrap();
    assert_eq!(guest.write(writer, "through"), Ok(7));
    assert_eq!(guest.read(reader, 10).as_deref(), Ok("through"));
    let late = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(60));
        std::fs::write(path, "later").unwrap();
    });
    assert_eq!(guest.read(reader, 10).as_deref(), Ok("later"), "waits while the other end is open");
    late.join().unwrap();
}

#[test]
fn renumbering_moves_a_descriptor() {
    let scratch = Scratch::new();
    scratch.file("a", "A");
    scratch.file("b", "B");
    let mut guest = Guest::at(&scratch);
    let (a, b) = (guest.open("a", 0, READ).unwrap(), guest.open("b", 0, READ).unwrap());
    guest.ok("fd_renumber", &[a, b]);
    assert_eq!(guest.read(b, 1).as_deref(), Ok("A"));
    assert_eq!(guest.read(a, 1), Err(Errno::Badf));
    guest.ok("fd_renumber", &[b, b]);
    assert_eq!(guest.call("fd_renumber", &[b, 99]), Errno::Badf);
    assert_eq!(guest.call("fd_renumber", &[a, b]), Errno::Badf);
    assert_eq!(guest.read(b, 1).as_deref(), Ok(""), "still open");
}

#[test]
fn descriptors_run_out_without_harm() {
    let scratch = Scratch::new();
    scratch.file("file", "");
    let mut guest = Guest::at(&scratch);
    let [path, length] = guest.put("file");
    let out = guest.take(4);
    let args = [ROOT, 0, path, length, 0, READ, 0, 0, out];
    let opened = (0..2000).take_while(|_| guest.call("path_open", &args) == Errno::Success).count();
    assert!(opened <= MAX_DESCRIPTORS - 4, "{opened}");
    assert_eq!(guest.call("path_open", &args), Errno::Mfile);
    guest.ok("fd_close", &[10]);
    guest.ok("path_open", &args);
    assert_eq!(guest.u32(out), 10);
}

#[test]
fn a_bad_pointer_for_the_result_opens_and_creates_nothing() {
    let scratch = Scratch::new();
    let mut guest = Guest::at(&scratch);
    let [path, length] = guest.put("new");
    assert_eq!(guest.call("path_open", &[ROOT, 0, path, length, CREAT, WRITE, 0, 0, ALL]), Errno::Fault);
    assert!(!scratch.path().join("new").exists());
}
