//! Standard streams and scattered transfers.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dagwood_wasm::wasi::{Buffer, CallError, Errno, MAX_IOVECS, Stdio, WasiConfig};

use crate::harness::{Guest, MEMORY_BYTES, NONBLOCK, Scratch};

const CHARACTER_DEVICE: u8 = 2;
const REGULAR_FILE: u8 = 4;
const SEEK: u64 = 1 << 2;

fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (File::from(OwnedFd::from(reader)), writer.into())
}

#[test]
fn output_goes_to_its_own_stream() {
    let (out, err) = (Buffer::new(), Buffer::new());
    let config = WasiConfig::new().stdout(Stdio::Buffer(out.clone())).stderr(Stdio::Buffer(err.clone()));
    let mut guest = Guest::new(config);
    assert_eq!(guest.write(1, "to out "), Ok(7));
    assert_eq!(guest.write(2, "to err"), Ok(6));
    assert_eq!(guest.write(1, "again"), Ok(5));
    assert_eq!(out.contents(), b"to out again");
    assert_eq!(err.contents(), b"to err");
}

#[test]
fn input_ends() {
    let mut guest = Guest::new(WasiConfig::new().stdin(Stdio::Buffer(Buffer::from(&b"hello"[..]))));
    assert_eq!(guest.read(0, 3).as_deref(), Ok("hel"));
    assert_eq!(guest.read(0, 100).as_deref(), Ok("lo"));
    assert_eq!(guest.read(0, 100).as_deref(), Ok(""));
}

#[test]
fn null_streams_are_empty_and_swallow() {
    let mut guest = Guest::new(WasiConfig::new());
    assert_eq!(guest.read(0, 10).as_deref(), Ok(""));
    assert_eq!(guest.write(1, "gone"), Ok(4));
}

#[test]
fn streams_have_one_direction_and_no_position() {
    let buffers = WasiConfig::new().stdin(Stdio::Buffer(Buffer::new())).stdout(Stdio::Buffer(Buffer::new()));
    for mut guest in [Guest::new(WasiConfig::new()), Guest::new(buffers)] {
        let out = guest.take(8);
        assert_eq!(guest.write(0, "x"), Err(Errno::Badf));
        assert_eq!(guest.read(1, 1), Err(Errno::Badf));
        assert_eq!(guest.call("fd_seek", &[1, 0, 0, out]), Errno::Spipe);
        assert_eq!(guest.call("fd_tell", &[0, out]), Errno::Spipe);
        assert_eq!(guest.call("fd_pread", &[0, 0, 0, 0, out]), Errno::Spipe);
        assert_eq!(guest.call("fd_pwrite", &[1, 0, 0, 0, out]), Errno::Spipe);
        assert_eq!(guest.call("fd_prestat_get", &[0, out]), Errno::Badf);
        let stat = guest.take(64);
        guest.ok("fd_filestat_get", &[1, stat]);
        guest.ok("fd_fdstat_get", &[1, stat]);
        assert_ne!(guest.memory[stat as usize], CHARACTER_DEVICE, "not a terminal");
    }
}

#[test]
fn a_full_buffer_takes_what_fits_and_then_nothing() {
    let out = Buffer::with_limit(8);
    let mut guest = Guest::new(WasiConfig::new().stdout(Stdio::Buffer(out.clone())));
    assert_eq!(guest.write(1, "123456"), Ok(6));
    assert_eq!(guest.write(1, "7890"), Ok(2));
    assert_eq!(guest.write(1, "x"), Err(Errno::Nospc));
    assert_eq!(guest.write(1, ""), Ok(0));
    assert_eq!(out.contents(), b"12345678");
}

#[test]
fn scattered_buffers_keep_their_order() {
    let (input, out) = (Buffer::from(&b"abcdefgh"[..]), Buffer::new());
    let config = WasiConfig::new().stdin(Stdio::Buffer(input)).stdout(Stdio::Buffer(out.clone()));
    let mut guest = Guest::new(config);
    let buffer = guest.take(16);
    let iovecs = guest.iovecs(&[[buffer + 8, 3], [0, 0], [buffer, 2]]);
    let count = guest.take(4);
    guest.ok("fd_read", &[0, iovecs, 3, count]);
    assert_eq!((guest.u32(count), guest.bytes(buffer, 12)), (5, &b"de\0\0\0\0\0\0abc\0"[..]));
    guest.ok("fd_write", &[1, iovecs, 3, count]);
    assert_eq!((guest.u32(count), out.contents()), (5, b"abcde".to_vec()));
}

#[test]
fn buffers_may_repeat_beyond_the_size_of_memory() {
    let out = Buffer::new();
    let scratch = Scratch::new();
    let file = File::create(scratch.path().join("out")).unwrap();
    let config = WasiConfig::new().stdout(Stdio::Buffer(out.clone())).stderr(Stdio::File(file.into()));
    let mut guest = Guest::new(config);
    let iovecs = guest.iovecs(&[[0, MEMORY_BYTES as u64]; 40]);
    let count = guest.take(4);
    for fd in [1, 2] {
        guest.ok("fd_write", &[fd, iovecs, 40, count]);
        assert_eq!(guest.u32(count) as usize, 40 * MEMORY_BYTES);
    }
    assert_eq!(out.len(), 40 * MEMORY_BYTES);
    assert_eq!(std::fs::metadata(scratch.path().join("out")).unwrap().len(), 40 * MEMORY_BYTES as u64);
}

#[test]
fn hostile_iovecs_are_refused_before_anything_moves() {
    let out = Buffer::new();
    let mut guest = Guest::new(WasiConfig::new().stdout(Stdio::Buffer(out.clone())));
    let end = MEMORY_BYTES as u64;
    let count = guest.take(4);
    let good = guest.put("x");
    let beyond = guest.iovecs(&[good, [end - 1, 2]]);
    assert_eq!(guest.call("fd_write", &[1, beyond, 2, count]), Errno::Fault);
    let wrapping = guest.iovecs(&[good, [u64::from(u32::MAX), 2]]);
    assert_eq!(guest.call("fd_write", &[1, wrapping, 2, count]), Errno::Fault);
    let fine = guest.iovecs(&[good]);
    assert_eq!(guest.call("fd_write", &[1, end - 4, 1, count]), Errno::Fault);
    assert_eq!(guest.call("fd_write", &[1, fine, u64::from(MAX_IOVECS) + 1, count]), Errno::Inval);
    assert_eq!(guest.call("fd_write", &[1, fine, u64::from(u32::MAX), count]), Errno::Inval);
    assert_eq!(guest.call("fd_write", &[1, fine, 1, end - 3]), Errno::Fault);
    assert!(out.is_empty());
    guest.ok("fd_write", &[1, fine, 1, count]);
}

#[test]
fn lengths_that_sum_beyond_32_bits_are_inval() {
    let mut guest = Guest::new(WasiConfig::new());
    guest.memory.resize(5 << 20, 0);
    let iovecs = guest.iovecs(&vec![[0, 5 << 20]; 1000]);
    let count = guest.take(4);
    assert_eq!(guest.call("fd_write", &[1, iovecs, 1000, count]), Errno::Inval);
    guest.ok("fd_write", &[1, iovecs, 800, count]);
    assert_eq!(u64::from(guest.u32(count)), 800 * (5 << 20));
}

#[test]
fn pipes_and_files_of_the_host_serve_as_streams() {
    let (mut reader, writer) = pipe();
    let scratch = Scratch::new();
    scratch.file("in", "from a file");
    let input = File::open(scratch.path().join("in")).unwrap();
    let mut guest =
        Guest::new(WasiConfig::new().stdin(Stdio::File(input.into())).stdout(Stdio::File(writer)));
    assert_eq!(guest.read(0, 4).as_deref(), Ok("from"));
    assert_eq!(guest.write(1, "to a pipe"), Ok(9));
    let stat = guest.take(24);
    guest.ok("fd_fdstat_get", &[0, stat]);
    assert_eq!(guest.memory[stat as usize], REGULAR_FILE);
    assert_ne!(guest.u64(stat + 8) & SEEK, 0);
    guest.ok("fd_fdstat_get", &[1, stat]);
    assert_eq!(guest.u64(stat + 8) & SEEK, 0);
    guest.ok("fd_close", &[1]);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "to a pipe");
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error() {
    let (reader, writer) = pipe();
    drop(reader);
    let mut guest = Guest::new(WasiConfig::new().stdout(Stdio::File(writer)));
    assert_eq!(guest.write(1, "x"), Err(Errno::Pipe));
}

#[test]
fn a_stream_that_must_not_wait_says_again() {
    let (reader, writer) = pipe();
    let mut writer = File::from(writer);
    let mut guest = Guest::new(WasiConfig::new().stdin(Stdio::File(reader.into())));
    guest.ok("fd_fdstat_set_flags", &[0, NONBLOCK]);
    assert_eq!(guest.read(0, 10), Err(Errno::Again));
    writer.write_all(b"now").unwrap();
    assert_eq!(guest.read(0, 10).as_deref(), Ok("now"));
    assert_eq!(guest.read(0, 10), Err(Errno::Again));
    drop(writer);
    assert_eq!(guest.read(0, 10).as_deref(), Ok(""));
    let stat = guest.take(24);
    guest.ok("fd_fdstat_get", &[0, stat]);
    assert_eq!(u64::from(guest.u16(stat + 2)), NONBLOCK);
}

#[test]
fn a_read_that_waits_can_be_interrupted() {
    let (reader, writer) = pipe();
    let deadline = Instant::now() + Duration::from_millis(120);
    let config = WasiConfig::new().stdin(Stdio::File(reader.into()));
    let mut guest = Guest::new(config.interrupt(move || Instant::now() >= deadline));
    let buffer = guest.take(8);
    let iovecs = guest.iovecs(&[[buffer, 8]]);
    assert_eq!(guest.try_call("fd_read", &[0, iovecs, 1, 0]), Err(CallError::Interrupted));
    assert!(Instant::now() >= deadline && deadline.elapsed() < Duration::from_secs(5));
    drop(writer);
}

#[test]
fn a_read_that_waits_gets_what_comes_later() {
    let (reader, writer) = pipe();
    let mut guest = Guest::new(WasiConfig::new().stdin(Stdio::File(reader.into())).interrupt(|| false));
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(120));
        File::from(writer).write_all(b"late").unwrap();
    });
    assert_eq!(guest.read(0, 10).as_deref(), Ok("late"));
    late.join().unwrap();
}

#[test]
fn a_write_to_a_full_pipe_can_be_interrupted() {
    let (reader, writer) = pipe();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let config =
        WasiConfig::new().stdout(Stdio::File(writer)).interrupt(move || seen.load(Ordering::Relaxed));
    let mut guest = Guest::new(config);
    let iovecs = guest.iovecs(&[[0, MEMORY_BYTES as u64]; 100]);
    let clock = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(120));
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(guest.try_call("fd_write", &[1, iovecs, 100, 0]), Err(CallError::Interrupted));
    clock.join().unwrap();
    drop(reader);
}

#[test]
fn a_write_larger_than_a_pipe_arrives_whole_while_interruptible() {
    let (mut reader, writer) = pipe();
    let mut guest = Guest::new(WasiConfig::new().stdout(Stdio::File(writer)).interrupt(|| false));
    let iovecs = guest.iovecs(&[[0, MEMORY_BYTES as u64]; 10]);
    let consumer = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes.len()
    });
    guest.ok("fd_write", &[1, iovecs, 10, 0]);
    assert_eq!(guest.u32(0) as usize, 10 * MEMORY_BYTES);
    guest.ok("fd_close", &[1]);
    assert_eq!(consumer.join().unwrap(), 10 * MEMORY_BYTES);
}

#[test]
fn inherited_streams_are_those_of_this_process() {
    let config = WasiConfig::new().stdin(Stdio::Inherit).stdout(Stdio::Inherit).stderr(Stdio::Inherit);
    let mut guest = Guest::new(config);
    let stat = guest.take(64);
    for (fd, host) in
        [(0, std::io::stdin().as_fd()), (1, std::io::stdout().as_fd()), (2, std::io::stderr().as_fd())]
    {
        guest.ok("fd_filestat_get", &[fd, stat]);
        assert_eq!(guest.u64(stat + 8), rustix::fs::fstat(host).unwrap().st_ino);
    }
    guest.ok("fd_close", &[2]);
    assert!(rustix::fs::fstat(std::io::stderr()).is_ok(), "closing is the program's affair");
}
