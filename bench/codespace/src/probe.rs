//! What a fresh process does that places code near itself, and the line that it prints.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use dagwood_codespace::{CodeSpace, Lane, Layout, Options, Placement, reserve_near};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::findings::Result;
use crate::sizes::Random;

/// How far a direct call reaches.
const REACH: usize = 1 << 31;

/// What one process saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Whether all code is in reach of the image.
    pub is_near: bool,
    /// The rung of the ladder that the space's first code stands on.
    pub rung: String,
    /// Nanoseconds of reserving addresses near the image.
    pub place: f64,
    /// Nanoseconds of making the space.
    pub space: f64,
    /// How many of the hostile mappings there are.
    pub hostile: u64,
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { is_near, rung, place, space, hostile } = self;
        write!(out, "near {} rung {rung} place {place} space {space} hostile {hostile}", u8::from(*is_near))
    }
}

impl FromStr for Answer {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(line: &str) -> Result<Answer> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["near", near, "rung", rung, "place", place, "space", space, "hostile", hostile] = words[..]
        else {
            return Err(format!("the probe answers {line:?}").into());
        };
        Ok(Answer {
            is_near: near == "1",
            rung: rung.into(),
            place: place.parse()?,
            space: space.parse()?,
            hostile: hostile.parse()?,
        })
    }
}

/// Strews `count` inaccessible mappings of 64 KiB to 4 MiB over the addresses within reach of `anchor`; some meet what
/// is there already and fail. Says how many there are now.
fn strew(anchor: usize, count: u64, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut made = 0;
    for _ in 0..count {
        let len = (1 + random.below(64)) << 16;
        let start = (anchor.wrapping_sub(REACH).wrapping_add(random.below(2 * REACH))) & !0xfff;
        if !(1 << 16..(1 << 47) - 2 * REACH).contains(&start) {
            continue;
        }
        // SAFETY: the mapping is refused where something is mapped, and nobody may access it.
        let mapped = unsafe {
            mmap_anonymous(
                std::ptr::without_provenance_mut(start),
                len,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE | MapFlags::NORESERVE,
            )
        };
        made += u64::from(mapped.is_ok());
    }
    made
}

/// Whether `anchor` can call every byte from `start` to `end`, and code there can call `anchor`.
fn reaches(anchor: usize, start: usize, end: usize) -> bool {
    start.abs_diff(anchor).max(end.abs_diff(anchor)) < REACH - 4096
}

/// Strews `hostile` mappings around `anchor`, an address in the image, reserves `len` bytes of addresses near it, and then
/// places code there.
///
/// # Errors
///
/// If the space cannot be made or has no room for four functions.
pub fn run(anchor: usize, hostile: u64, seed: u64, len: usize) -> Result<Answer> {
    let hostile = strew(anchor, hostile, seed);
    // The clock's first reading maps its page, which is not what is measured.
    let _ = Instant::now();
    let start = Instant::now();
    let reservation = reserve_near(anchor, len)?;
    let place = start.elapsed().as_nanos() as f64;
    let mut is_near = reaches(anchor, reservation.base(), reservation.base() + reservation.len());
    drop(reservation);

    let start = Instant::now();
    let options = Options { placement: Placement::Near(anchor), ..Options::default() };
    let space = CodeSpace::new(&options)?;
    let made = start.elapsed().as_nanos() as f64;
    let writer = space.writer();
    for lane in Lane::ALL {
        let mut buffer = writer.reserve(&Layout { lane, ..Layout::new(64) })?;
        buffer.bytes_mut()[0] = 0xc3;
        let code = buffer.publish(0)?;
        is_near &= reaches(anchor, code.address(), code.address() + code.len());
    }
    let rung = format!("{:?}", space.report().rung);
    Ok(Answer { is_near, rung, place, space: made, hostile })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_survives_the_pipe() {
        let answer = Answer { is_near: true, rung: "Walk".into(), place: 1.5, space: 2e4, hostile: 12 };
        assert_eq!(answer.to_string().parse::<Answer>().unwrap(), answer);
        assert!("near 1 rung".parse::<Answer>().is_err(), "half a line is no answer");
    }

    #[test]
    fn reach_is_measured_to_the_farther_end() {
        let anchor = 0x5555_5555_0000;
        assert!(reaches(anchor, anchor - (1 << 30), anchor));
        assert!(reaches(anchor, anchor, anchor + (1 << 30)));
        assert!(!reaches(anchor, anchor, anchor + (1 << 31)));
        assert!(!reaches(anchor, anchor - (1 << 31), anchor));
    }
}
