//! The machine code that the experiments run: a closed set, so that calling it can be proved harmless.

use std::sync::Arc;

use crate::sizes::Random;

/// `ret`
const RET: u8 = 0xc3;
/// `nop`
const NOP: u8 = 0x90;
/// Additions to registers that a callee may change, four bytes each: a line of cache holds sixteen.
const ADDITIONS: [[u8; 4]; 6] = [
    [0x48, 0x83, 0xc0, 1], // add rax, 1
    [0x48, 0x83, 0xc1, 1], // add rcx, 1
    [0x48, 0x83, 0xc2, 1], // add rdx, 1
    [0x48, 0x83, 0xc6, 1], // add rsi, 1
    [0x48, 0x83, 0xc7, 1], // add rdi, 1
    [0x49, 0x83, 0xc0, 1], // add r8, 1
];

/// Machine code that can stand anywhere, takes nothing, returns an integer or garbage in `rax`, and changes only
/// registers that a callee may change.
#[derive(Clone)]
pub(crate) struct Body {
    bytes: Arc<[u8]>,
    len: usize,
}

impl Body {
    fn new(bytes: Vec<u8>) -> Body {
        Body { len: bytes.len(), bytes: bytes.into() }
    }

    /// Returns at once, and has `len` bytes, at least one.
    pub(crate) fn returning(len: usize) -> Body {
        let mut bytes = vec![NOP; len.max(1)];
        bytes[0] = RET;
        Body::new(bytes)
    }

    /// Bodies that return at once, of these lengths. They share their bytes: copying one reads memory that the last one
    /// has just read, as a compiler's output is when it is placed.
    pub(crate) fn all_returning(lens: &[usize]) -> Vec<Body> {
        let longest = Body::returning(lens.iter().copied().max().unwrap_or(1));
        lens.iter().map(|&len| Body { bytes: Arc::clone(&longest.bytes), len: len.max(1) }).collect()
    }

    /// Runs through its first `active` bytes and returns; has `len` bytes.
    pub(crate) fn adding(len: usize, active: usize) -> Body {
        let mut bytes = vec![NOP; len.max(1)];
        let active = active.clamp(1, bytes.len());
        for (place, addition) in bytes[..active - 1].chunks_exact_mut(4).zip(ADDITIONS.iter().cycle()) {
            place.copy_from_slice(addition);
        }
        bytes[active - 1] = RET;
        Body::new(bytes)
    }

    /// Counts down from `count`, which is not zero, and returns: a cycle or so for each step.
    pub(crate) fn counting(count: u32) -> Body {
        let mut bytes = vec![0xb9]; // mov ecx, count
        bytes.extend(count.max(1).to_le_bytes());
        bytes.extend([0x48, 0xff, 0xc9, 0x75, 0xfb, RET]); // dec rcx; jnz to the dec; ret
        Body::new(bytes)
    }

    /// Returns `value`.
    pub(crate) fn constant(value: u32) -> Body {
        let mut bytes = vec![0xb8]; // mov eax, value
        bytes.extend(value.to_le_bytes());
        bytes.push(RET);
        Body::new(bytes)
    }

    /// The code.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Random bodies of a lognormal length (median 400, as compiled methods have it), which run through at most
    /// `lines` cache lines of theirs.
    pub(crate) fn short(count: usize, lines: usize, seed: u64) -> Vec<Body> {
        let mut random = Random::new(seed);
        (0..count)
            .map(|_| {
                // Twelve uniform numbers have the sum of a normal one, nearly.
                let sum: f64 = (0..12).map(|_| (random.next() >> 11) as f64 / (1u64 << 53) as f64).sum();
                let len = (400.0 * (sum - 6.0).exp()).clamp(32.0, 16_000.0) as usize;
                Body::adding(len, lines * 64)
            })
            .collect()
    }
}

/// A loop that calls nothing: `rdi` points to a count that it increments, `rsi` to a byte that ends it when not zero.
pub(crate) const LOOP: &[u8] = &[
    0x48, 0xff, 0x07, // again: inc qword [rdi]
    0xb9, 20, 0, 0, 0, // mov ecx, 20
    0xff, 0xc9, 0x75, 0xfc, // dec ecx; jnz to the dec
    0x80, 0x3e, 0, // cmp byte [rsi], 0
    0x74, 0xef, // je again
    RET,
];

/// A frame that calls the function in `rdi`.
pub(crate) const FRAME: &[u8] = &[
    0x55, // push rbp
    0x48, 0x89, 0xe5, // mov rbp, rsp
    0xff, 0xd7, // call rdi
    0x5d, // pop rbp
    RET,
];
