//! Waiting for several things at once: sleeping, and streams becoming ready.
//!
//! Files and streams in memory are ready always. A subscription that is wrong in itself (an unknown descriptor, a
//! clock that cannot be waited for) is an event with an error, at once; the others are looked at all the same.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::time::ClockId;

use super::descriptor::{Descriptor, Resource};
use super::errno::Errno;
use super::memory::{Memory, field, field_u32, field_u64};
use super::table::{Args, Stop};
use super::types::rights;
use super::{Wasi, clock};

/// Most subscriptions in one call.
pub const MAX_SUBSCRIPTIONS: u32 = 4096;

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: usize = 32;

/// The tags of subscriptions, and types of events.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// A timeout is a time, not a span.
const ABSOLUTE_TIME: u16 = 1;

/// The other end is gone.
const HANGUP: u16 = 1;

/// What a subscription waits for.
enum Wait<'w> {
    /// The clock showing this time, in nanoseconds.
    Time(ClockId, u64),
    /// The entry of the host's poll with this index.
    Host(BorrowedFd<'w>, usize),
    /// Nothing: so many bytes are there.
    Ready(u64),
    /// Nothing: it is wrong.
    Wrong(Errno),
}

struct Subscription<'w> {
    user_data: u64,
    tag: u8,
    wait: Wait<'w>,
}

pub(super) fn poll_oneoff(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [subscriptions, events, count, out] = args.words();
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return Err(Errno::Inval.into());
    }
    memory.range(out, 1, 4)?;
    let events = memory.range(events, count, EVENT_BYTES as u32)?;
    let records = memory.range(subscriptions, count, SUBSCRIPTION_BYTES)?;
    let mut polled = Vec::new();
    let subscriptions = memory
        .at(records)
        .chunks_exact(SUBSCRIPTION_BYTES as usize)
        .map(|record| Subscription::read(record, wasi, &mut polled))
        .collect::<Result<Vec<_>, _>>()?;
    loop {
        wasi.interrupt.poll(&mut polled, longest_wait(&subscriptions))?;
        let happened = subscriptions.iter().filter_map(|subscription| subscription.event(&polled));
        let mut written = 0u32;
        for (slot, event) in memory.at_mut(events.clone()).chunks_exact_mut(EVENT_BYTES).zip(happened) {
            slot.copy_from_slice(&event);
            written += 1;
        }
        if written > 0 {
            memory.write_u32(out, written)?;
            return Ok(());
        }
    }
}

/// How long nothing can happen but on the host's descriptors; for ever if no clock is waited for.
fn longest_wait(subscriptions: &[Subscription<'_>]) -> Option<Duration> {
    let wait = |subscription: &Subscription<'_>| match subscription.wait {
        Wait::Time(clock, time) => Some(Duration::from_nanos(time.saturating_sub(clock::now(clock)))),
        Wait::Ready(_) | Wait::Wrong(_) => Some(Duration::ZERO),
        Wait::Host(..) => None,
    };
    subscriptions.iter().filter_map(wait).min()
}

impl<'w> Subscription<'w> {
    /// Reads a subscription; what the host has to be asked about goes to `polled`.
    fn read(record: &[u8], wasi: &'w Wasi, polled: &mut Vec<PollFd<'w>>) -> Result<Self, Errno> {
        let user_data = field_u64(record, 0);
        let [tag] = field(record, 8);
        let wait = match tag {
            CLOCK => time_of(record),
            FD_READ => readiness(wasi, field_u32(record, 16), rights::FD_READ, PollFlags::IN, polled),
            FD_WRITE => readiness(wasi, field_u32(record, 16), rights::FD_WRITE, PollFlags::OUT, polled),
            _ => return Err(Errno::Inval),
        };
        Ok(Self { user_data, tag, wait: wait.unwrap_or_else(Wait::Wrong) })
    }

    /// The event of this subscription, if it has happened.
    fn event(&self, polled: &[PollFd<'_>]) -> Option<[u8; EVENT_BYTES]> {
        let (errno, bytes, flags) = match self.wait {
            Wait::Time(clock, time) if clock::now(clock) < time => return None,
            Wait::Time(..) => (Errno::Success, 0, 0),
            Wait::Ready(bytes) => (Errno::Success, bytes, 0),
            Wait::Wrong(errno) => (errno, 0, 0),
            Wait::Host(host, index) => {
                let found = polled[index].revents();
                if found.is_empty() {
                    return None;
                }
                let bytes = match self.tag {
                    FD_READ => rustix::io::ioctl_fionread(host).unwrap_or(0),
                    _ => 0,
                };
                (Errno::Success, bytes, if found.contains(PollFlags::HUP) { HANGUP } else { 0 })
            }
        };
        let mut record = [0; EVENT_BYTES];
        record[0..8].copy_from_slice(&self.user_data.to_le_bytes());
        record[8..10].copy_from_slice(&errno.code().to_le_bytes());
        record[10] = self.tag;
        record[16..24].copy_from_slice(&bytes.to_le_bytes());
        record[24..26].copy_from_slice(&flags.to_le_bytes());
        Some(record)
    }
}

/// The time that a clock's subscription waits for. Processor time may stand still, so it is not waited for.
fn time_of<'w>(record: &[u8]) -> Result<Wait<'w>, Errno> {
    let clock = match clock::host_clock(field_u32(record, 16))? {
        clock @ (ClockId::Realtime | ClockId::Monotonic) => clock,
        _ => return Err(Errno::Notsup),
    };
    let timeout = field_u64(record, 24);
    match u16::from_le_bytes(field(record, 40)) {
        0 => Ok(Wait::Time(clock, clock::now(clock).saturating_add(timeout))),
        ABSOLUTE_TIME => Ok(Wait::Time(clock, timeout)),
        _ => Err(Errno::Inval),
    }
}

/// What a descriptor's subscription waits for.
fn readiness<'w>(
    wasi: &'w Wasi,
    fd: u32,
    right: u64,
    interest: PollFlags,
    polled: &mut Vec<PollFd<'w>>,
) -> Result<Wait<'w>, Errno> {
    let descriptor = wasi.descriptors.require(fd, right | rights::POLL_FD_READWRITE)?;
    match descriptor.host() {
        Some(host) if descriptor.may_block() => {
            polled.push(PollFd::from_borrowed_fd(host, interest));
            Ok(Wait::Host(host, polled.len() - 1))
        }
        host => Ok(Wait::Ready(if right == rights::FD_READ { remaining(descriptor, host) } else { 0 })),
    }
}

/// The bytes left to read of what is always ready.
fn remaining(descriptor: &Descriptor, host: Option<BorrowedFd<'_>>) -> u64 {
    match (&descriptor.resource, host) {
        (Resource::Buffer(buffer), _) => buffer.len() as u64,
        (_, Some(host)) => {
            let size = rustix::fs::fstat(host).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
            size.saturating_sub(rustix::fs::tell(host).unwrap_or(0))
        }
        _ => 0,
    }
}
