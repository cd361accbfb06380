//! Clocks: real time, monotonic time, and processor time of this process and thread.

use rustix::time::{ClockId, Timespec};

use super::Wasi;
use super::errno::Errno;
use super::memory::Memory;
use super::table::{Args, Stop};

/// The host's clock of this number.
pub(super) fn host_clock(number: u32) -> Result<ClockId, Errno> {
    match number {
        0 => Ok(ClockId::Realtime),
        1 => Ok(ClockId::Monotonic),
        2 => Ok(ClockId::ProcessCPUTime),
        3 => Ok(ClockId::ThreadCPUTime),
        _ => Err(Errno::Inval),
    }
}

/// What the clock shows, in nanoseconds.
pub(super) fn now(clock: ClockId) -> u64 {
    nanoseconds(rustix::time::clock_gettime(clock))
}

/// Nanoseconds; negative times are 0, those beyond 64 bits the largest number.
fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

pub(super) fn clock_res_get(_: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [clock, resolution] = args.words();
    let clock = host_clock(clock)?;
    memory.write_u64(resolution, nanoseconds(rustix::time::clock_getres(clock)))?;
    Ok(())
}

pub(super) fn clock_time_get(_: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [clock, _precision, time] = args.raw();
    let clock = host_clock(clock as u32)?;
    memory.write_u64(time as u32, now(clock))?;
    Ok(())
}
