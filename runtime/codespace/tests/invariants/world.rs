//! What the tests share: modes, code to place, random numbers, and the memory map.

use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dagwood_codespace::{Code, CodeSpace, CodeWriter, Fallback, Lane, Layout, Options, Packing, Protection};

/// The bytes of a cache line, and of the trailer that ends a function's last line.
pub(crate) const LINE: usize = 64;
pub(crate) const TRAILER: usize = 16;
pub(crate) const PAGE: usize = 4096;
pub(crate) const CHUNK: usize = 2 << 20;
pub(crate) const INT3: u8 = 0xcc;

/// The tests run one after the other: some count the mappings of the process, signal or fork it, or run code, which
/// holds up the grace periods of all spaces.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells this program that the system denies it to make anything executable that was writable.
pub(crate) const DENIED: &str = "DAGWOOD_CODESPACE_DENIED";

/// How a space writes its code and packs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) protection: Protection,
    pub(crate) packing: Packing,
}

impl Mode {
    /// Every protection with every packing that it has.
    const ALL: [Mode; 7] = [
        Mode { protection: Protection::Dual, packing: Packing::Granules },
        Mode { protection: Protection::Dual, packing: Packing::Pages },
        Mode { protection: Protection::Session, packing: Packing::Granules },
        Mode { protection: Protection::Session, packing: Packing::Pages },
        Mode { protection: Protection::NoAlias, packing: Packing::Granules },
        Mode { protection: Protection::NoAlias, packing: Packing::Pages },
        Mode { protection: Protection::Flip, packing: Packing::Pages },
    ];

    /// All that the process may use: one that may make nothing executable cannot flip pages.
    pub(crate) fn all() -> impl Iterator<Item = Mode> {
        let is_denied = std::env::var_os(DENIED).is_some();
        Mode::ALL.into_iter().filter(move |mode| !is_denied || mode.protection != Protection::Flip)
    }

    /// The fastest.
    pub(crate) fn first() -> Mode {
        Mode::ALL[0]
    }

    pub(crate) fn options(self) -> Options {
        let Mode { protection, packing } = self;
        Options { protection, packing, fallback: Fallback::Refused, ..Options::default() }
    }

    pub(crate) fn space(self) -> CodeSpace {
        CodeSpace::new(&self.options()).expect("the system allows the mode")
    }

    /// Whether calls can be patched while they run.
    pub(crate) fn patches_calls(self) -> bool {
        self.protection.patches_calls()
    }

    /// Whether bytes can.
    pub(crate) fn patches_bytes(self) -> bool {
        self.protection != Protection::Flip
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.protection, self.packing)
    }
}

/// Pseudo-random numbers (xorshift64*, S. Vigna, "An experimental exploration of Marsaglia's xorshift generators").
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    /// A size of code: most of it small, some with pages of its own.
    pub(crate) fn size(&mut self) -> usize {
        match self.below(40) {
            0 => 16 * 1024 + self.below(40 * 1024),
            1..=6 => 1024 + self.below(6 * 1024),
            _ => 1 + self.below(900),
        }
    }

    pub(crate) fn lane(&mut self) -> Lane {
        Lane::ALL[self.below(4)]
    }
}

/// What a function returns, and code that is recognised again: `mov eax, value; ret`, and then bytes that are
/// neither `int3` nor zero.
pub(crate) fn returns(value: u32, len: usize) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(value.to_le_bytes());
    code.push(0xc3);
    code.extend((code.len()..len).map(|at| 1 + (at as u32 ^ value) as u8 % 100));
    code.truncate(len);
    code
}

/// Writes and publishes `bytes`.
pub(crate) fn place(writer: &CodeWriter, bytes: &[u8], lane: Lane, owner: usize) -> Code {
    let mut buffer = writer.reserve(&Layout { lane, ..Layout::new(bytes.len()) }).expect("there is room");
    buffer.bytes_mut().copy_from_slice(bytes);
    buffer.publish(owner).expect("the system lets code be written")
}

/// Calls a function without arguments at an address.
pub(crate) fn call(address: usize) -> u32 {
    // SAFETY: the tests call only what they placed, code that follows the convention and whose space is alive.
    let function: extern "sysv64" fn() -> u32 = unsafe { std::mem::transmute(address) };
    function()
}

/// Reclaims until nothing waits, which takes two calls while nobody runs code.
pub(crate) fn reclaim_all(writer: &CodeWriter) -> usize {
    let mut count = 0;
    for _ in 0..2 {
        writer.reclaim(&mut |_| count += 1).expect("nothing fails");
    }
    assert_eq!(writer.space().stats().waiting, 0, "nobody runs code, so two calls free everything");
    count
}

/// Everything that belongs to the code, from the start of its first line to its trailer.
pub(crate) fn run(code: &Code) -> Range<usize> {
    let end = code.address() + code.len() + TRAILER;
    code.address() / LINE * LINE..end.next_multiple_of(LINE)
}

/// What stands at addresses that are mapped readable.
pub(crate) fn bytes_at(range: Range<usize>) -> &'static [u8] {
    // SAFETY: the tests read only code that is mapped while they look, and do not keep the slice over anything that
    // changes it.
    unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(range.start), range.len()) }
}

/// A line of the memory map.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(crate) range: Range<usize>,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) execute: bool,
    /// Whether it is of memory for code.
    pub(crate) is_code_file: bool,
    line: String,
}

/// The memory map of this process.
pub(crate) fn mappings() -> Vec<Mapping> {
    let text = std::fs::read_to_string("/proc/self/maps").expect("a process can read its memory map");
    text.lines().map(|line| Mapping::parse(line).unwrap_or_else(|| panic!("not a mapping: {line}"))).collect()
}

impl Mapping {
    fn parse(line: &str) -> Option<Mapping> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        let &[read, write, execute, _] = rest.as_bytes().first_chunk::<4>()?;
        Some(Mapping {
            range,
            read: read == b'r',
            write: write == b'w',
            execute: execute == b'x',
            is_code_file: line.contains("memfd:dagwood-code"),
            line: line.to_owned(),
        })
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// Fails if anything can be written and executed in one mapping.
pub(crate) fn assert_write_xor_execute(after: &str) {
    for mapping in mappings() {
        assert!(!(mapping.write && mapping.execute), "after {after}: {mapping}");
    }
}

/// The readable executable mappings of a space.
pub(crate) fn executable(space: &CodeSpace) -> Vec<Mapping> {
    let ours = |mapping: &Mapping| mapping.execute && mapping.read && space.contains(mapping.range.start);
    mappings().into_iter().filter(ours).collect()
}
