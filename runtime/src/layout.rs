//! The buffer through which arguments go into compiled code and results come back. Contexts and threads are laid out by
//! [`dagwood_il::layout`], which the code generator reads too.

use dagwood_il::layout::BUFFER_SLOT_BYTES;

/// Room for one value of any type in a buffer of arguments and results.
///
/// A value narrower than 64 bits stands in the low bytes; what is above it means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Slot([u8; BUFFER_SLOT_BYTES as usize]);

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
