//! What can be raised: a kind, which every layer understands, and a reason, which only the frontend does.

use std::fmt;
use std::str::FromStr;

/// Declares the kinds: documentation, variant, name of the constant set, name in the text form.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $set:ident $name:literal;)*) => {
        /// The kind of a raise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum RaiseKind {
            $($(#[$doc])* $kind,)*
        }

        impl RaiseKind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &[RaiseKind] = &[$(RaiseKind::$kind),*];

            /// The name in the text form.
            pub const fn name(self) -> &'static str {
                match self {
                    $(RaiseKind::$kind => $name,)*
                }
            }
        }

        impl KindSet {
            $($(#[$doc])* pub const $set: KindSet = KindSet(1 << RaiseKind::$kind as u32);)*
        }
    };
}

kinds! {
    /// A null reference was used.
    Null NULL "null";
    /// An index was outside its bounds.
    Bounds BOUNDS "bounds";
    /// A divisor was zero.
    Division DIVISION "division";
    /// A result did not fit.
    Overflow OVERFLOW "overflow";
    /// A float had no integer value.
    Conversion CONVERSION "conversion";
    /// An object was not of the class it was cast to.
    Cast CAST "cast";
    /// An object may not be stored in an array.
    Store STORE "store";
    /// A length was negative.
    NegativeSize NEGATIVE_SIZE "negative_size";
    /// A monitor was left by a thread that does not own it.
    Monitor MONITOR "monitor";
    /// An indirect call found a method of another signature.
    Signature SIGNATURE "signature";
    /// A place was reached that the program holds to be unreachable.
    Unreachable UNREACHABLE "unreachable";
    /// The stack is used up.
    StackOverflow STACK_OVERFLOW "stack_overflow";
    /// Memory is used up.
    OutOfMemory OUT_OF_MEMORY "out_of_memory";
    /// The thread was asked to end: time, fuel, or the embedder.
    Interrupt INTERRUPT "interrupt";
    /// What the runtime found wrong with the host or the machine code; no handler catches it.
    Fault FAULT "fault";
    /// An exception object of the guest language.
    Guest GUEST "guest";
}

impl RaiseKind {
    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<RaiseKind> {
        RaiseKind::ALL.get(number as usize).copied()
    }

    /// The raise code that `caught_kind` gives: the kind in the low 8 bits, `reason` above.
    pub const fn code(self, reason: u16) -> u32 {
        self as u32 | (reason as u32) << 8
    }
}

impl fmt::Display for RaiseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RaiseKind {
    type Err = ();

    fn from_str(text: &str) -> Result<RaiseKind, ()> {
        RaiseKind::ALL.iter().copied().find(|kind| kind.name() == text).ok_or(())
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KindSet(u32);

impl KindSet {
    /// No kind.
    pub const NONE: KindSet = KindSet(0);
    /// Every kind.
    pub const ALL: KindSet = KindSet((1 << RaiseKind::ALL.len()) - 1);
    /// Every kind that a handler may catch: all but [`RaiseKind::Fault`].
    pub const CATCHABLE: KindSet = KindSet(KindSet::ALL.0 & !KindSet::FAULT.0);

    /// The set of one kind.
    pub const fn one(kind: RaiseKind) -> KindSet {
        KindSet(1 << kind as u32)
    }

    /// Both sets together.
    pub const fn union(self, other: KindSet) -> KindSet {
        KindSet(self.0 | other.0)
    }

    /// What is in both sets.
    pub const fn intersection(self, other: KindSet) -> KindSet {
        KindSet(self.0 & other.0)
    }

    /// What is in this set and not in `other`.
    pub const fn without(self, other: KindSet) -> KindSet {
        KindSet(self.0 & !other.0)
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: RaiseKind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }

    /// The kinds in the set, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = RaiseKind> {
        RaiseKind::ALL.iter().copied().filter(move |kind| self.contains(*kind))
    }
}
