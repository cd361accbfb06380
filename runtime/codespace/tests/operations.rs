//! Random operations of several writers against a model: a map of what is where.
//!
//! `DAGWOOD_CODESPACE_OPERATIONS` says how many for each case, `DAGWOOD_FUZZ_SEED` from where.

mod chance;

use std::collections::BTreeMap;

use dagwood_codespace::{
    Code, CodeBuf, CodeSpace, CodeWriter, Error, Found, GRANULE, HotEdge, Lane, Layout, Options, PAGE,
    Packing, Protection,
};

use chance::{Random, number};

impl Random {
    /// Mostly small, as functions are, sometimes around the sizes at which the packing changes, seldom huge.
    fn size(&mut self) -> usize {
        match self.below(1000) {
            0..700 => 1 + self.below(400),
            700..950 => 1 + self.below(6000),
            950..990 => 1 + self.below(60_000),
            990..998 => (16 << 10) - 200 + self.below(400),
            998 => (2 << 20) - PAGE - 100 + self.below(200),
            _ => 1 + self.below(5 << 20),
        }
    }

    fn align(&mut self) -> usize {
        match self.below(20) {
            0 => 1 << self.below(13),
            1..5 => 64,
            _ => 16,
        }
    }
}

/// What bytes a function has.
fn pattern(owner: usize, offset: usize) -> u8 {
    (owner.wrapping_mul(0x9e37_79b9) >> 7) as u8 ^ offset.wrapping_mul(31) as u8
}

/// Reads code.
fn read(address: usize, len: usize) -> &'static [u8] {
    // SAFETY: the tests read only what lies in a chunk of a space that lives, and nothing that is being written.
    unsafe { std::slice::from_raw_parts(address as *const u8, len) }
}

struct Function {
    code: Code,
    owner: usize,
    /// Bytes that were patched.
    patched: Vec<(usize, u8)>,
}

impl Function {
    fn check(&self, space: &CodeSpace) {
        let (address, len) = (self.code.address(), self.code.len());
        let expected = Found { address, len, owner: self.owner };
        for offset in [0, len / 2, len.saturating_sub(64), len - 1] {
            assert_eq!(space.lookup(address + offset), Some(expected), "byte {offset} of {len}");
        }
        for outside in [address - 1, address + len] {
            assert_ne!(space.lookup(outside), Some(expected));
        }
        let mut bytes: Vec<u8> = (0..len).map(|offset| pattern(self.owner, offset)).collect();
        self.patched.iter().for_each(|&(offset, byte)| bytes[offset] = byte);
        assert!(read(address, len) == bytes, "the bytes at {address:#x} are what was written");
    }
}

/// A buffer that is being written.
struct Pending<'w> {
    buffer: CodeBuf<'w>,
    owner: usize,
}

struct Model<'s> {
    space: &'s CodeSpace,
    random: Random,
    /// The lines that belong to a function or a buffer, from the first to behind the last, and its owner.
    lines: BTreeMap<usize, (usize, usize)>,
    live: Vec<Function>,
    /// Where and how long what was retired is, by owner.
    retired: BTreeMap<usize, (usize, usize)>,
    last_owner: usize,
}

impl<'s> Model<'s> {
    fn new(space: &'s CodeSpace, seed: u64) -> Model<'s> {
        let (lines, retired) = (BTreeMap::new(), BTreeMap::new());
        Model { space, random: Random(seed | 1), lines, live: Vec::new(), retired, last_owner: 0 }
    }

    fn take_lines(&mut self, address: usize, len: usize, owner: usize) {
        let (start, end) = (address / GRANULE * GRANULE, (address + len).next_multiple_of(GRANULE));
        // What was retired may have been reclaimed for this allocation; that is told later.
        while let Some((&other, &(until, other_owner))) = self.lines.range(..end).next_back()
            && until > start
        {
            assert!(self.retired.contains_key(&other_owner), "{address:#x} lies on lines of its own");
            self.lines.remove(&other);
        }
        self.lines.insert(start, (end, owner));
    }

    /// Whether the lines still belonged to the owner.
    fn give_lines(&mut self, address: usize, owner: usize) -> bool {
        let start = address / GRANULE * GRANULE;
        let is_owner = self.lines.get(&start).is_some_and(|&(_, other)| other == owner);
        is_owner && self.lines.remove(&start).is_some()
    }

    fn reserve<'w>(&mut self, writer: &'w CodeWriter) -> Option<Pending<'w>> {
        let (size, align) = (self.random.size(), self.random.align());
        let lane = Lane::ALL[self.random.below(20).saturating_sub(16)];
        let start = self.random.below(size) as u32;
        let edge = [HotEdge { start, end: start + 5, frequency: HotEdge::ONCE }];
        let hot = if self.random.below(4) == 0 { &edge[..] } else { &[] };
        let mut buffer = match writer.reserve(&Layout { size, align, lane, hot }) {
            Err(Error::Full { .. }) => return None,
            other => other.expect("only the limit is in the way"),
        };
        assert_eq!((buffer.address() % align, buffer.len()), (0, size));
        self.last_owner += 1;
        let owner = self.last_owner;
        self.take_lines(buffer.address(), size, owner);
        for (offset, byte) in buffer.bytes_mut().iter_mut().enumerate() {
            assert_eq!(*byte, 0xcc, "what is reserved is int3");
            *byte = pattern(owner, offset);
        }
        Some(Pending { buffer, owner })
    }

    fn publish(&mut self, Pending { buffer, owner }: Pending<'_>) {
        let address = buffer.address();
        assert_eq!(self.space.lookup(address), None, "what is not published is not found");
        let code = buffer.publish(owner).expect("the system lets code be written");
        assert_eq!(code.address(), address);
        let function = Function { code, owner, patched: Vec::new() };
        function.check(self.space);
        self.live.push(function);
    }

    fn abandon(&mut self, Pending { buffer, owner }: Pending<'_>) {
        let address = buffer.address();
        assert!(self.give_lines(address, owner));
        drop(buffer);
        assert_eq!(self.space.lookup(address), None);
    }

    fn some_live(&mut self) -> Option<Function> {
        let count = self.live.len();
        (count > 0).then(|| {
            let at = self.random.below(count);
            self.live.swap_remove(at)
        })
    }

    fn retire(&mut self, writer: &CodeWriter) {
        let Some(function) = self.some_live() else { return };
        function.check(self.space);
        self.retired.insert(function.owner, (function.code.address(), function.code.len()));
        let by_writer = self.random.below(3) > 0;
        let result = if by_writer { writer.retire(function.code) } else { self.space.retire(function.code) };
        result.expect("the code is the space's");
    }

    fn free(&mut self, writer: &CodeWriter) {
        let Some(function) = self.some_live() else { return };
        function.check(self.space);
        let address = function.code.address();
        // SAFETY: nobody runs the code, and nobody keeps what a lookup said.
        let result = unsafe {
            if self.random.below(3) > 0 { writer.free(function.code) } else { self.space.free(function.code) }
        };
        assert_eq!(result, Ok(()));
        assert_eq!(self.space.lookup(address), None);
        assert!(self.give_lines(address, function.owner));
    }

    fn reclaim(&mut self, writer: &CodeWriter) {
        let by_writer = self.random.below(3) > 0;
        let space = self.space;
        let mut freed = |found: Found| {
            let gone = self.retired.remove(&found.owner);
            assert_eq!(gone, Some((found.address, found.len)), "what is freed was retired, once");
            if self.give_lines(found.address, found.owner) {
                assert_eq!(space.lookup(found.address), None);
                // If it was reclaimed for an allocation, its memory may have been given back, by whole pages.
                let (start, end) = (found.address, found.address + found.len);
                for page in (start / PAGE * PAGE..end).step_by(PAGE) {
                    let bytes = read(start.max(page), end.min(page + PAGE) - start.max(page));
                    let is_all = |wanted: u8| bytes.iter().all(|&byte| byte == wanted);
                    assert!(
                        is_all(0xcc) || is_all(0),
                        "what is freed is int3: {found:?} {:?}",
                        &bytes[..8.min(bytes.len())]
                    );
                }
            }
        };
        let result = if by_writer { writer.reclaim(&mut freed) } else { space.reclaim(&mut freed) };
        result.expect("nothing fails");
    }

    fn patch(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let at = self.random.below(self.live.len());
        let function = &mut self.live[at];
        let offset = self.random.below(function.code.len());
        let byte = self.random.below(256) as u8;
        // SAFETY: nobody runs the code.
        match unsafe { self.space.patch_byte(function.code.address() + offset, byte) } {
            Ok(()) => function.patched.push((offset, byte)),
            Err(error) => assert!(matches!(error, Error::Unsupported { .. }), "{error}"),
        }
        function.check(self.space);
    }

    fn check_all(&self) {
        self.live.iter().for_each(|function| function.check(self.space));
        let stats = self.space.stats();
        assert!(stats.live >= self.live.len() && stats.live <= self.live.len() + self.retired.len());
    }

    /// Some operations with writers that end with them.
    fn run(&mut self, operations: usize) {
        let writers: Vec<CodeWriter> = (0..1 + self.random.below(3)).map(|_| self.space.writer()).collect();
        let mut pending: Vec<Pending<'_>> = Vec::new();
        // How many functions there are at most goes up and down.
        let limit = 1 + self.random.below(600);
        for _ in 0..operations {
            let writer = &writers[self.random.below(writers.len())];
            let is_full = self.live.len() >= limit;
            match self.random.below(100) {
                0..45 if !is_full => pending.extend(self.reserve(writer)),
                0..35 => self.retire(writer),
                35..75 if !pending.is_empty() => {
                    let chosen = pending.swap_remove(self.random.below(pending.len()));
                    if self.random.below(10) == 0 { self.abandon(chosen) } else { self.publish(chosen) }
                }
                75..83 => self.retire(writer),
                83..90 => self.free(writer),
                90..94 => self.reclaim(writer),
                94..97 => self.patch(),
                97 if self.random.below(20) == 0 => writer.rest(),
                98 if self.random.below(50) == 0 => self.check_all(),
                _ => {}
            }
        }
        while let Some(chosen) = pending.pop() {
            if self.random.below(2) == 0 { self.abandon(chosen) } else { self.publish(chosen) }
        }
    }

    /// Takes everything out again.
    fn end(mut self) {
        self.check_all();
        let writer = self.space.writer();
        while !self.live.is_empty() {
            if self.random.below(2) == 0 { self.retire(&writer) } else { self.free(&writer) }
        }
        while !self.retired.is_empty() {
            self.reclaim(&writer);
        }
        drop(writer);
        assert_eq!(self.lines, BTreeMap::new());
        let stats = self.space.stats();
        assert_eq!((stats.live, stats.live_bytes, stats.waiting, stats.used_bytes), (0, 0, 0, 0));
        assert!(stats.resident_bytes <= 4 * (512 << 10), "{stats:?}");
    }
}

fn try_operations(protection: Protection, packing: Packing, usual: usize) {
    let seed = number("DAGWOOD_FUZZ_SEED").unwrap_or(0x5eed);
    let operations = number("DAGWOOD_CODESPACE_OPERATIONS").map_or(usual, |operations| operations as usize);
    println!("DAGWOOD_FUZZ_SEED={seed} DAGWOOD_CODESPACE_OPERATIONS={operations} {protection:?} {packing:?}");
    // Two thirds of what the functions may take, so that the limit is met too.
    let options = Options { protection, packing, max_bytes: 24 << 20, ..Options::default() };
    let space = CodeSpace::new(&options).expect("the system allows it");
    let mut model = Model::new(&space, seed);
    let mut left = operations;
    while left > 0 {
        let part = left.min(1 + model.random.below(5000));
        model.run(part);
        left -= part;
    }
    model.end();
}

#[test]
fn packed_functions_are_what_a_map_says() {
    try_operations(Protection::Dual, Packing::Granules, 60_000);
}

#[test]
fn functions_with_pages_of_their_own_are_what_a_map_says() {
    try_operations(Protection::Dual, Packing::Pages, 15_000);
}

#[test]
fn they_are_while_write_views_come_and_go() {
    try_operations(Protection::Session, Packing::Granules, 6_000);
    try_operations(Protection::Session, Packing::Pages, 2_000);
}

#[test]
fn they_are_without_write_views() {
    try_operations(Protection::NoAlias, Packing::Granules, 15_000);
    try_operations(Protection::NoAlias, Packing::Pages, 4_000);
}

#[test]
fn they_are_while_pages_flip() {
    try_operations(Protection::Flip, Packing::Pages, 4_000);
}
