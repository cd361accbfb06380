//! Where the generator's decisions come from: a run of bytes, so that a fuzzer can steer them and a seed can replay them.

/// Decisions read from bytes. Once the bytes are used up every decision is the first alternative, so that every
/// input makes a finite program.
pub struct Choices<'b> {
    bytes: &'b [u8],
}

impl<'b> Choices<'b> {
    /// Decisions from these bytes.
    pub fn new(bytes: &'b [u8]) -> Choices<'b> {
        Choices { bytes }
    }

    /// Whether the bytes are used up.
    pub fn is_exhausted(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: usize) -> usize {
        debug_assert!(bound > 0, "there is an alternative to choose");
        let wide = if bound > 256 {
            u32::from_le_bytes([self.byte(), self.byte(), self.byte(), 0])
        } else {
            self.byte().into()
        };
        wide as usize % bound
    }

    /// Whether something with odds of one in `n` happens. Never, once the bytes are used up.
    pub fn one_in(&mut self, n: usize) -> bool {
        !self.is_exhausted() && self.below(n) == n - 1
    }

    /// One of several; `None` of none.
    pub fn pick<'s, T>(&mut self, from: &'s [T]) -> Option<&'s T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }

    /// 64 bits, often ones at which arithmetic changes its course.
    pub fn bits(&mut self) -> u64 {
        const EDGES: [u64; 16] = [
            0,
            1,
            u64::MAX,
            2,
            i8::MAX as u64,
            i16::MAX as u64,
            i32::MAX as u64,
            i64::MAX as u64,
            1 << 7,
            1 << 15,
            1 << 31,
            1 << 63,
            u32::MAX as u64,
            10,
            63,
            0xffff_ffff_0000_0001,
        ];
        match self.byte() {
            kind @ 0..=111 => EDGES[kind as usize % EDGES.len()],
            112..=143 => self.byte().into(),
            144..=175 => self.byte() as i8 as u64,
            176..=207 => 1u64.rotate_left(self.byte().into()),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// The bits of a float of `bits` width, often a special one.
    pub fn float_bits(&mut self, bits: u32) -> u64 {
        const EDGES: [f64; 16] = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -1.5,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            2147483648.0,
            -2147483649.0,
            9223372036854775808.0,
            -9223372036854775808.0,
            1e-310,
            4294967295.5,
            1e300,
        ];
        match self.byte() {
            kind @ 0..=159 => {
                let float = EDGES[kind as usize % EDGES.len()];
                if bits == 32 { (float as f32).to_bits().into() } else { float.to_bits() }
            }
            160..=207 => {
                let float = f64::from(self.byte() as i8) / 4.0;
                if bits == 32 { (float as f32).to_bits().into() } else { float.to_bits() }
            }
            _ => self.bits(),
        }
    }
}

/// `len` bytes that depend on nothing but `seed` (splitmix64, Steele and others 2014).
pub fn bytes_of_seed(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ word >> 31).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
