//! Quotients and remainders.
//!
//! A rule never takes away a raise: it divides by what is proven not to be zero, or its right side raises as well.
//!
//! What is *not* here: a signed quotient by a power of two becomes shifts, and one by another constant a multiplication,
//! only in code generation. Until then ranges are seen best in the quotient itself.

use super::Group;

pub(super) const GROUPS: &[Group] = &[
    Group {
        name: "by one, by minus one, by itself",
        why: "generic code has constants for parameters once it is inlined",
        laws: &[
            "sdiv x 1 => x",
            "udiv x 1 => x",
            "srem x 1 => 0",
            "urem x 1 => 0",
            "sdiv x -1 => neg x",
            "srem x -1 => 0",
            "sdiv x x => 1 if nonzero x",
            "udiv x x => 1 if nonzero x",
            "srem x x => 0 if nonzero x",
            "urem x x => 0 if nonzero x",
            "sdiv 0 x => 0 if nonzero x",
            "udiv 0 x => 0 if nonzero x",
            "srem 0 x => 0 if nonzero x",
            "urem 0 x => 0 if nonzero x",
        ],
    },
    Group {
        name: "by powers of two",
        why: "a shift and a mask take a cycle, and the rules of bits know them",
        laws: &[
            "udiv x A => ushr x (ctz A) if pow2 A",
            "urem x A => and x (add A -1) if pow2 A",
            "sdiv (and x A) B => ushr (and x A) (ctz B) if sge A 0, pow2 B, sgt B 0",
            "srem (and x A) B => and x (and A (add B -1)) if sge A 0, pow2 B, sgt B 0",
            "eq (srem x A) 0 => eq (and x (add A -1)) 0 if pow2 A",
            "ne (srem x A) 0 => ne (and x (add A -1)) 0 if pow2 A",
            "eq (srem x 2) 1 => eq (and x (add smallest 1)) 1",
            "ne (srem x 2) 1 => ne (and x (add smallest 1)) 1",
        ],
    },
    Group {
        name: "without a sign",
        why: "what cannot be negative is divided as a magnitude, which is quicker and has more rules",
        laws: &[
            "sdiv (and x A) B => udiv (and x A) B if sge A 0, sgt B 0",
            "srem (and x A) B => urem (and x A) B if sge A 0, sgt B 0",
            "sdiv (ushr x A) B => udiv (ushr x A) B if ne (urem A bits) 0, sgt B 0",
            "srem (ushr x A) B => urem (ushr x A) B if ne (urem A bits) 0, sgt B 0",
            "sdiv (uext x) A => udiv (uext x) A if sgt A 0",
            "srem (uext x) A => urem (uext x) A if sgt A 0",
        ],
    },
    Group {
        name: "of quotients and remainders",
        why: "digits are taken from numbers one after the other",
        laws: &[
            "udiv (udiv x A) B => udiv x (mul A B) if eq (umulhigh A B) 0, nonzero B",
            "sdiv (sdiv x A) B => sdiv x (mul A B) if eq (smulhigh A B) (sshr (mul A B) top), ne A -1, nonzero B",
            "udiv (ushr x A) B => udiv x (shl B A) if ult A bits, eq (ushr (shl B A) A) B, nonzero B",
            "ushr (udiv x A) B => udiv x (shl A B) if ult B bits, eq (ushr (shl A B) B) A",
            "urem (urem x y) y => urem x y",
            "srem (srem x y) y => srem x y",
            "urem (urem x A) B => urem x B if eq (urem A B) 0",
            "srem (srem x A) B => srem x B if eq (srem A B) 0",
            "udiv (urem x y) y => 0",
            "sdiv (srem x y) y => 0",
            "udiv (and x A) B => 0 if ult A B",
            "urem (and x A) B => and x A if ult A B",
            "udiv (ushr x A) B => 0 if ult (ushr -1 A) B",
            "urem (ushr x A) B => ushr x A if ult (ushr -1 A) B",
            "udiv (uext x) A => uext (udiv x (wrap A)) if eq (uext (wrap:x A)) A, nonzero A",
            "urem (uext x) A => uext (urem x (wrap A)) if eq (uext (wrap:x A)) A, nonzero A",
        ],
    },
    Group {
        name: "compared",
        why: "a comparison of a quotient needs no quotient",
        laws: &[
            "eq (udiv x A) 0 => ult x A",
            "ne (udiv x A) 0 => uge x A",
            "ult (udiv x A) B => ult x (mul A B) if eq (umulhigh A B) 0",
            "ugt (udiv x A) B => ugt x (add (mul A (add B 1)) -1) if eq (umulhigh A (add B 1)) 0, ne B -1",
            "ult (urem x y) y => 1",
            "uge (urem x y) y => 0",
            "ugt y (urem x y) => 1",
            "ule y (urem x y) => 0",
            "ult (urem x A) B => 1 if ule A B",
            "ugt (urem x A) B => 0 if ule A (add B 1), ne B -1",
        ],
    },
];
