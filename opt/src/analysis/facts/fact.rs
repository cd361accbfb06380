//! What is known of one value: the domain of [`facts`](super).
//!
//! ```text
//!   unsigned range ──┐
//!   signed range   ──┼── one set of values: what all of them allow
//!   known bits     ──┘
//! ```
//!
//! *Why all three.* Bounds are unsigned, loop tests are signed, alignment and masks are bits; each is cheap, and each
//! sharpens the others wherever one is set ([`Fact::meet`]).
//!
//! *Guarantees.* A fact allows at least one value. [`Fact::join`] allows what either allows; [`Fact::meet`] allows what
//! both allow, and is none if that is nothing.
//!
//! *Cost.* 64 bytes; a few dozen instructions for each operation.

use dagwood_il::eval::Value;
use dagwood_il::{ClassId, Type};

/// Which objects a reference may point at, if it is not null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Any.
    #[default]
    Any,
    /// Those of a class, and of what extends it.
    AtMost(ClassId),
    /// Those of a class and of no other.
    Exactly(ClassId),
}

/// What is known of a value. For integers and addresses that is a set of numbers; for references, whether they are null
/// and what they point at; for floats, whether they are one constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    umin: u64,
    umax: u64,
    smin: i64,
    smax: i64,
    zeros: u64,
    ones: u64,
    kind: Kind,
    ty: Type,
}

/// The low bits of `value`, as a signed number.
fn sign_extended(ty: Type, value: u64) -> i64 {
    match ty.bits() {
        bits @ 1..=63 => (value << (64 - bits)) as i64 >> (64 - bits),
        _ => value as i64,
    }
}

impl Fact {
    /// Nothing is known.
    pub fn any(ty: Type) -> Fact {
        // What is wider than 64 bits, or no value at all, is never known better than this.
        let mask = if ty.mask() == 0 { u64::MAX } else { ty.mask() };
        let largest = (mask >> 1) as i64;
        Fact {
            umin: 0,
            umax: mask,
            smin: -largest - 1,
            smax: largest,
            zeros: !mask,
            ones: 0,
            kind: Kind::Any,
            ty,
        }
    }

    /// The value is this one. Of types wider than 64 bits nothing is known.
    pub fn constant(ty: Type, bits: u64) -> Fact {
        if ty.bits() > 64 || ty == Type::Void {
            return Fact::any(ty);
        }
        let bits = bits & ty.mask();
        let signed = sign_extended(ty, bits);
        Fact {
            umin: bits,
            umax: bits,
            smin: signed,
            smax: signed,
            zeros: !bits,
            ones: bits,
            kind: Kind::Any,
            ty,
        }
    }

    /// The value lies between two numbers, unsigned.
    pub fn unsigned(ty: Type, min: u64, max: u64) -> Fact {
        let any = Fact::any(ty);
        let max = max.min(any.umax);
        if min > max || !matches!(ty.bits(), 1..=64) {
            return any;
        }
        // Where no bit is known from the lowest on, bounds are all there is to carry over.
        let common = common_bits(min, max);
        let (mut smin, mut smax) = (any.smin, any.smax);
        if min > any.smax as u64 || max <= any.smax as u64 {
            (smin, smax) = (sign_extended(ty, min), sign_extended(ty, max));
        }
        Fact {
            umin: min,
            umax: max,
            smin,
            smax,
            zeros: !min & common,
            ones: min & common,
            kind: Kind::Any,
            ty,
        }
    }

    /// The value lies between two numbers, signed.
    pub fn signed(ty: Type, min: i64, max: i64) -> Fact {
        let any = Fact::any(ty);
        let (min, max) = (min.max(any.smin), max.min(any.smax));
        if min > max || !matches!(ty.bits(), 1..=64) {
            any
        } else if min >= 0 || max < 0 {
            Fact::unsigned(ty, min as u64 & ty.mask(), max as u64 & ty.mask())
        } else {
            Fact { smin: min, smax: max, ..any }
        }
    }

    /// The value has zeros at least where `zeros` has ones, and ones where `ones` has them.
    pub fn bits(ty: Type, zeros: u64, ones: u64) -> Fact {
        Parts::any(ty).bits(zeros, ones).fact()
    }

    /// The value is what some number between these two leaves in the width of `ty`: of a sum, a product, taken exactly.
    pub fn wrapped(ty: Type, min: i128, max: i128) -> Fact {
        Parts::any(ty).wrapped(min, max).fact()
    }

    /// The value is not zero, not null.
    pub fn nonzero(ty: Type) -> Fact {
        Fact::unsigned(ty, 1, u64::MAX)
    }

    /// A condition.
    pub fn truth() -> Fact {
        Fact::unsigned(Type::I32, 0, 1)
    }

    /// A reference to objects of this kind, or null.
    pub fn object(kind: Kind) -> Fact {
        Fact { kind, ..Fact::any(Type::Ref) }
    }

    /// The same number in a wider type, without its sign.
    pub(super) fn zero_extended(&self, ty: Type) -> Fact {
        let (zeros, ones) = (self.zeros, self.ones);
        Fact { smin: self.umin as i64, smax: self.umax as i64, zeros, ones, kind: Kind::Any, ty, ..*self }
    }

    /// The type of the value.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// The smallest value, unsigned.
    pub fn umin(&self) -> u64 {
        self.umin
    }

    /// The largest value, unsigned.
    pub fn umax(&self) -> u64 {
        self.umax
    }

    /// The smallest value, signed.
    pub fn smin(&self) -> i64 {
        self.smin
    }

    /// The largest value, signed.
    pub fn smax(&self) -> i64 {
        self.smax
    }

    /// The bits that are zero; those above the width are.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The bits that are one.
    pub fn ones(&self) -> u64 {
        self.ones
    }

    /// What a reference points at, if it is not null.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The one value that there can be.
    pub fn as_constant(&self) -> Option<u64> {
        (self.umin == self.umax && matches!(self.ty.bits(), 1..=64)).then_some(self.umin)
    }

    /// Whether nothing is known.
    pub fn is_any(&self) -> bool {
        // Whatever is known narrows one of the ranges, but single bits and what a reference points at.
        let any = Fact::any(self.ty);
        (self.umin, self.umax, self.smin, self.smax) == (any.umin, any.umax, any.smin, any.smax)
            && (self.zeros, self.ones, self.kind) == (any.zeros, any.ones, any.kind)
    }

    /// Whether the value cannot be zero or null.
    pub fn is_nonzero(&self) -> bool {
        self.umin > 0
    }

    /// Whether the value is not negative, so that both ways of reading it are one.
    pub fn is_nonnegative(&self) -> bool {
        self.smin >= 0
    }

    /// Whether a value may be this one.
    pub fn allows(&self, value: Value) -> bool {
        let bits = value.low();
        let signed = sign_extended(self.ty, bits);
        value.ty() == self.ty
            && (self.ty.bits() > 64
                || (self.umin..=self.umax).contains(&bits)
                    && (self.smin..=self.smax).contains(&signed)
                    && bits & self.zeros == 0
                    && bits & self.ones == self.ones)
    }

    /// Whether meeting `other` would teach nothing.
    pub fn is_within(&self, other: &Fact) -> bool {
        let is_kind_known = match (self.kind, other.kind) {
            (_, Kind::Any) | (Kind::Exactly(_), _) => true,
            (Kind::AtMost(_), kind) => !matches!(kind, Kind::Exactly(_)),
            (Kind::Any, _) => false,
        };
        self.umin >= other.umin
            && self.umax <= other.umax
            && self.smin >= other.smin
            && self.smax <= other.smax
            && other.zeros & !self.zeros == 0
            && other.ones & !self.ones == 0
            && is_kind_known
    }

    /// What both allow; none if that is nothing. What a reference points at is as `self` says, unless `other` knows better.
    #[must_use]
    pub fn meet(&self, other: &Fact) -> Option<Fact> {
        let kind = match (self.kind, other.kind) {
            (Kind::Any, kind) | (Kind::AtMost(_), kind @ Kind::Exactly(_)) => kind,
            (kind, _) => kind,
        };
        let met = Fact {
            umin: self.umin.max(other.umin),
            umax: self.umax.min(other.umax),
            smin: self.smin.max(other.smin),
            smax: self.smax.min(other.smax),
            zeros: self.zeros | other.zeros,
            ones: self.ones | other.ones,
            kind,
            ty: self.ty,
        };
        if met == *self || met == *other { Some(met) } else { met.reduced() }
    }

    /// What both allow, of two facts that are both true.
    #[must_use]
    pub fn and(self, other: Fact) -> Fact {
        self.meet(&other).unwrap_or(self)
    }

    /// What either allows.
    #[must_use]
    pub fn join(&self, other: &Fact) -> Fact {
        let kind = match (self.kind, other.kind) {
            _ if self.umax == 0 => other.kind,
            _ if other.umax == 0 => self.kind,
            (Kind::AtMost(a) | Kind::Exactly(a), Kind::AtMost(b) | Kind::Exactly(b)) if a == b => {
                if self.kind == other.kind { self.kind } else { Kind::AtMost(a) }
            }
            _ => Kind::Any,
        };
        let joined = Fact {
            umin: self.umin.min(other.umin),
            umax: self.umax.max(other.umax),
            smin: self.smin.min(other.smin),
            smax: self.smax.max(other.smax),
            zeros: self.zeros & other.zeros,
            ones: self.ones & other.ones,
            kind,
            ty: self.ty,
        };
        if joined == *self || joined == *other { joined } else { joined.reduced().unwrap_or(joined) }
    }

    /// What either allows, and more where `other` is not within `self`: bounds that moved move all the way, bits that
    /// were lost take those above them along. After few steps nothing moves.
    #[must_use]
    pub fn widen(&self, other: &Fact) -> Fact {
        let (any, joined) = (Fact::any(self.ty), self.join(other));
        if joined == *self {
            return joined;
        }
        let keep = |is_same: bool, bits: u64, lost: u64| {
            if is_same { bits } else { bits & ((1_u64 << lost.trailing_zeros().min(63)) - 1) }
        };
        let (lost_zeros, lost_ones) = (self.zeros & !joined.zeros, self.ones & !joined.ones);
        let widened = Fact {
            umin: if joined.umin < self.umin { any.umin } else { self.umin },
            umax: if joined.umax > self.umax { wider(joined.umax).min(any.umax) } else { self.umax },
            smin: if joined.smin < self.smin { any.smin } else { self.smin },
            smax: if joined.smax > self.smax {
                (wider(joined.smax.max(0) as u64) as i64).min(any.smax)
            } else {
                self.smax
            },
            zeros: any.zeros | keep(lost_zeros == 0, joined.zeros, lost_zeros),
            ones: keep(lost_ones == 0, joined.ones, lost_ones),
            kind: joined.kind,
            ty: self.ty,
        };
        widened.reduced().unwrap_or(any)
    }

    /// [`Fact::reduced`] where no bit is known: what one range says of the other says all, and what they agree on says bits.
    fn reduced_ranges(mut self) -> Option<Fact> {
        let (mask, sign) = (self.ty.mask(), 1_u64 << (self.ty.bits() - 1));
        for _ in 0..2 {
            if self.smin >= 0 || self.smax < 0 {
                self.umin = self.umin.max(self.smin as u64 & mask);
                self.umax = self.umax.min(self.smax as u64 & mask);
            }
            if self.umax < sign || self.umin >= sign {
                self.smin = self.smin.max(sign_extended(self.ty, self.umin));
                self.smax = self.smax.min(sign_extended(self.ty, self.umax));
            }
        }
        let common = common_bits(self.umin, self.umax);
        self.ones |= self.umin & common;
        self.zeros |= !self.umin & common;
        (self.umin <= self.umax && self.smin <= self.smax).then_some(self)
    }

    /// The same set, with each part as sharp as the others make it; none if the set is empty.
    fn reduced(mut self) -> Option<Fact> {
        if !matches!(self.ty.bits(), 1..=64) {
            return Some(Fact { kind: self.kind, ..Fact::any(self.ty) });
        }
        let (mask, sign) = (self.ty.mask(), 1_u64 << (self.ty.bits() - 1));
        if self.zeros == !mask && self.ones == 0 {
            return self.reduced_ranges();
        }
        // Each round carries what is known to all parts; more than a few never teach anything.
        for _ in 0..4 {
            let before = self;
            self.umin = self.umin.max(self.ones);
            self.umax = self.umax.min(!self.zeros & mask);
            if self.zeros & sign == 0 {
                self.smin = self.smin.max(sign_extended(self.ty, self.ones | sign));
            }
            if self.ones & sign == 0 {
                self.smax = self.smax.min((!self.zeros & mask & !sign) as i64);
            }
            if self.smin >= 0 || self.smax < 0 {
                self.umin = self.umin.max(self.smin as u64 & mask);
                self.umax = self.umax.min(self.smax as u64 & mask);
            }
            // Of numbers whose low bits are known, the bounds are the outermost with these bits.
            let low = ((1_u64 << (self.zeros | self.ones).trailing_ones().min(63)) - 1) & mask;
            let (up, down) =
                (self.ones.wrapping_sub(self.umin) & low, self.umax.wrapping_sub(self.ones) & low);
            match (self.umin.checked_add(up), self.umax.checked_sub(down)) {
                (Some(umin), Some(umax)) if umin <= umax => (self.umin, self.umax) = (umin, umax),
                _ => return None,
            }
            let (up, down) = (
                (self.ones as i64).wrapping_sub(self.smin) as u64 & low,
                self.smax.wrapping_sub(self.ones as i64) as u64 & low,
            );
            match (self.smin.checked_add_unsigned(up), self.smax.checked_sub_unsigned(down)) {
                (Some(smin), Some(smax)) if smin <= smax => (self.smin, self.smax) = (smin, smax),
                _ => return None,
            }
            if self.umax < sign || self.umin >= sign {
                self.smin = self.smin.max(sign_extended(self.ty, self.umin));
                self.smax = self.smax.min(sign_extended(self.ty, self.umax));
            }
            let common = common_bits(self.umin, self.umax);
            self.ones |= self.umin & common;
            self.zeros |= !self.umin & common;
            if self.smin > self.smax || self.zeros & self.ones != 0 {
                return None;
            }
            if self == before {
                break;
            }
        }
        Some(self)
    }
}

/// The highest bits, down to the first that two numbers do not have in common: all between them have these.
fn common_bits(min: u64, max: u64) -> u64 {
    !u64::MAX.checked_shr((min ^ max).leading_zeros()).unwrap_or(0)
}

/// The next of few numbers at which rising bounds rest: what integers of 32 and 64 bits hold.
fn wider(bound: u64) -> u64 {
    const RESTS: [u64; 3] = [i32::MAX as u64, u32::MAX as u64, i64::MAX as u64];
    RESTS.into_iter().find(|rest| bound <= *rest).unwrap_or(u64::MAX)
}

/// A fact in the making: parts are added one by one, and made to fit each other once, at the end.
#[derive(Clone, Copy)]
pub(super) struct Parts(Fact);

impl Parts {
    pub(super) fn any(ty: Type) -> Parts {
        Parts(Fact::any(ty))
    }

    pub(super) fn unsigned(mut self, min: u64, max: u64) -> Parts {
        self.0.umin = self.0.umin.max(min);
        self.0.umax = self.0.umax.min(max);
        self
    }

    pub(super) fn signed(mut self, min: i64, max: i64) -> Parts {
        self.0.smin = self.0.smin.max(min);
        self.0.smax = self.0.smax.min(max);
        self
    }

    pub(super) fn bits(mut self, zeros: u64, ones: u64) -> Parts {
        self.0.zeros |= zeros;
        self.0.ones |= ones;
        self
    }

    pub(super) fn wrapped(self, min: i128, max: i128) -> Parts {
        let ty = self.0.ty;
        if !matches!(ty.bits(), 1..=64) || min > max {
            return self;
        }
        let (bits, half, mask) = (ty.bits(), 1_i128 << (ty.bits() - 1), ty.mask());
        let mut parts = self;
        if min >> bits == max >> bits {
            parts = parts.unsigned(min as u64 & mask, max as u64 & mask);
        }
        // The largest products leave no room for half the width more; of them nothing is known either way.
        if max.checked_add(half).is_some_and(|max| (min + half) >> bits == max >> bits) {
            parts = parts.signed(sign_extended(ty, min as u64), sign_extended(ty, max as u64));
        }
        parts
    }

    /// The fact; one that says nothing where the parts leave no value.
    pub(super) fn fact(self) -> Fact {
        self.0.reduced().unwrap_or(Fact::any(self.0.ty))
    }
}
