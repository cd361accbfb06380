//! `poll_oneoff`: sleeping, readiness, and errors as events.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use dagwood_wasm::wasi::{Buffer, CallError, Errno, MAX_SUBSCRIPTIONS, Stdio, WasiConfig};

use crate::harness::Guest;

const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;
const MONOTONIC: u32 = 1;

fn clock(user_data: u64, clock: u32, timeout: u64, flags: u16) -> [u8; 48] {
    let mut record = [0; 48];
    record[0..8].copy_from_slice(&user_data.to_le_bytes());
    record[8] = CLOCK;
    record[16..20].copy_from_slice(&clock.to_le_bytes());
    record[24..32].copy_from_slice(&timeout.to_le_bytes());
    record[40..42].copy_from_slice(&flags.to_le_bytes());
    record
}

fn ready(user_data: u64, tag: u8, fd: u32) -> [u8; 48] {
    let mut record = [0; 48];
    record[0..8].copy_from_slice(&user_data.to_le_bytes());
    record[8] = tag;
    record[16..20].copy_from_slice(&fd.to_le_bytes());
    record
}

/// User data, error, type, bytes and flags.
type Event = (u64, u16, u8, u64, u16);

fn poll(guest: &mut Guest, subscriptions: &[[u8; 48]]) -> Result<Vec<Event>, CallError> {
    let [input, _] = guest.put(subscriptions.concat());
    let (events, out) = (guest.take(32 * subscriptions.len()), guest.take(4));
    guest.try_call("poll_oneoff", &[input, events, subscriptions.len() as u64, out])?;
    let event = |index: u32| {
        let at = events + 32 * u64::from(index);
        (
            guest.u64(at),
            guest.u16(at + 8),
            guest.memory[at as usize + 10],
            guest.u64(at + 16),
            guest.u16(at + 24),
        )
    };
    Ok((0..guest.u32(out)).map(event).collect())
}

#[test]
fn a_sleep_takes_its_time() {
    let mut guest = Guest::new(WasiConfig::new());
    let start = Instant::now();
    let events = poll(&mut guest, &[clock(7, MONOTONIC, 60_000_000, 0)]).unwrap();
    assert_eq!(events, [(7, 0, CLOCK, 0, 0)]);
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[test]
fn a_time_that_has_passed_is_an_event_at_once() {
    let mut guest = Guest::new(WasiConfig::new());
    for id in [0, MONOTONIC] {
        assert_eq!(poll(&mut guest, &[clock(1, id, 5, 1)]).unwrap(), [(1, 0, CLOCK, 0, 0)]);
    }
}

#[test]
fn the_earliest_clock_ends_the_wait() {
    let mut guest = Guest::new(WasiConfig::new());
    let subscriptions = [clock(1, MONOTONIC, u64::MAX, 0), clock(2, 0, 1_000_000, 0)];
    assert_eq!(poll(&mut guest, &subscriptions).unwrap(), [(2, 0, CLOCK, 0, 0)]);
}

#[test]
fn an_endless_sleep_can_be_interrupted() {
    for timeout in [u64::MAX, u64::MAX / 2, 3_600_000_000_000] {
        let deadline = Instant::now() + Duration::from_millis(80);
        let mut guest = Guest::new(WasiConfig::new().interrupt(move || Instant::now() >= deadline));
        assert_eq!(poll(&mut guest, &[clock(1, MONOTONIC, timeout, 0)]), Err(CallError::Interrupted));
        assert!(Instant::now() >= deadline && deadline.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn streams_in_memory_are_always_ready() {
    let input = Buffer::from(&b"12345"[..]);
    let mut guest = Guest::new(WasiConfig::new().stdin(Stdio::Buffer(input)));
    let subscriptions = [clock(1, MONOTONIC, u64::MAX, 0), ready(2, FD_READ, 0), ready(3, FD_WRITE, 1)];
    assert_eq!(poll(&mut guest, &subscriptions).unwrap(), [(2, 0, FD_READ, 5, 0), (3, 0, FD_WRITE, 0, 0)]);
}

#[test]
fn a_pipe_is_ready_when_it_has_bytes_or_has_ended() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut guest = Guest::new(WasiConfig::new().stdin(Stdio::File(OwnedFd::from(reader))));
    let subscriptions = [clock(1, MONOTONIC, 1_000_000, 0), ready(2, FD_READ, 0)];
    assert_eq!(poll(&mut guest, &subscriptions).unwrap(), [(1, 0, CLOCK, 0, 0)]);
    std::io::Write::write_all(&mut &writer, b"abc").unwrap();
    assert_eq!(poll(&mut guest, &[ready(2, FD_READ, 0)]).unwrap(), [(2, 0, FD_READ, 3, 0)]);
    assert_eq!(guest.read(0, 3).as_deref(), Ok("abc"));
    drop(writer);
    assert_eq!(poll(&mut guest, &[ready(2, FD_READ, 0)]).unwrap(), [(2, 0, FD_READ, 0, 1)]);
}

#[test]
fn what_is_wrong_in_itself_is_an_event_with_an_error() {
    let mut guest = Guest::new(WasiConfig::new());
    let subscriptions = [
        ready(1, FD_READ, 99),
        ready(2, FD_WRITE, 0),
        clock(3, 9, 0, 0),
        clock(4, 2, 0, 0),
        clock(5, MONOTONIC, u64::MAX, 0),
        clock(6, MONOTONIC, 0, 8),
    ];
    let events = poll(&mut guest, &subscriptions).unwrap();
    let badf = Errno::Badf.code();
    let expected = [
        (1, badf, FD_READ, 0, 0),
        (2, badf, FD_WRITE, 0, 0),
        (3, Errno::Inval.code(), CLOCK, 0, 0),
        (4, Errno::Notsup.code(), CLOCK, 0, 0),
        (6, Errno::Inval.code(), CLOCK, 0, 0),
    ];
    assert_eq!(events, expected);
}

#[test]
fn the_call_itself_can_be_wrong() {
    let mut guest = Guest::new(WasiConfig::new());
    let [input, _] = guest.put(clock(1, MONOTONIC, u64::MAX, 0));
    let events = guest.take(32);
    let end = guest.memory.len() as u64;
    assert_eq!(guest.call("poll_oneoff", &[input, events, 0, 0]), Errno::Inval);
    assert_eq!(
        guest.call("poll_oneoff", &[input, events, u64::from(MAX_SUBSCRIPTIONS) + 1, 0]),
        Errno::Inval
    );
    assert_eq!(guest.call("poll_oneoff", &[end - 47, events, 1, 0]), Errno::Fault);
    assert_eq!(guest.call("poll_oneoff", &[input, end - 31, 1, 0]), Errno::Fault);
    assert_eq!(guest.call("poll_oneoff", &[input, events, 1, end - 3]), Errno::Fault);
    let [unknown, _] = guest.put(ready(1, 3, 0));
    assert_eq!(guest.call("poll_oneoff", &[unknown, events, 1, 0]), Errno::Inval);
}
