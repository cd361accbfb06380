//! What compiled code and the runtime agree on in memory.
//!
//! ```text
//!   context:  0 thread block's address │ 8 … whatever the program's code keeps there
//!   thread:   0 stack limit │ 8 poll word │ 16 shadow top │ 24 shadow limit
//!   buffer:   one 16-byte slot for each argument, and for each result
//! ```
//!
//! The context's address is the first parameter of every compiled method. Numbers are little-endian, as the machine's.

/// Offsets in the VM context, in bytes.
pub mod context {
    /// The address of the thread block of the thread that runs the code, 8 bytes. The runtime sets it at each entry.
    pub const THREAD: usize = 0;
    /// Where what the runtime does not know starts.
    pub const FREE: usize = 8;
}

/// Offsets in the thread block, in bytes.
pub mod thread {
    /// The stack limit, 8 bytes: a method that finds `rsp` below it raises a stack overflow. The runtime sets it at entry.
    pub const STACK_LIMIT: usize = 0;
    /// The poll word, 4 bytes: if it is not zero, a poll must call the runtime's helper.
    pub const POLL: usize = 8;
    /// The first free byte of the shadow stack, 8 bytes. A method with address-taken locals moves it up when it is entered,
    /// and back where control leaves or re-enters it; the runtime moves it back for what an uncaught raise cut off.
    pub const SHADOW_TOP: usize = 16;
    /// The end of the shadow stack, 8 bytes: a method that would move the top above it raises a stack overflow.
    pub const SHADOW_LIMIT: usize = 24;
}

/// Room for one value of any type in a buffer of arguments and results.
///
/// A value narrower than 64 bits stands in the low bytes; what is above it means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Slot([u8; 16]);

impl Slot {
    /// The low 64 bits.
    pub fn low(self) -> u64 {
        self.all() as u64
    }

    /// All bits.
    pub fn all(self) -> u128 {
        u128::from_le_bytes(self.0)
    }
}

impl From<u64> for Slot {
    fn from(bits: u64) -> Slot {
        Slot::from(u128::from(bits))
    }
}

impl From<u128> for Slot {
    fn from(bits: u128) -> Slot {
        Slot(bits.to_le_bytes())
    }
}
