//! Choices.

use super::Group;

pub(super) const GROUPS: &[Group] = &[
    Group {
        name: "by a condition that is known, or does not matter",
        why: "what inlining and copies leave",
        laws: &[
            "select A x y => x if nonzero A",
            "select 0 x y => y",
            "select c x x => x",
            "select (ne c 0) x y => select c x y",
            "select (eq c 0) x y => select c y x",
            "select c (select c x y) z => select c x z",
            "select c x (select c y z) => select c x z",
            "select (eq x y) x y => y",
            "select (ne x y) x y => x",
        ],
    },
    Group {
        name: "of truths",
        why: "a condition that is written as a number is that number already",
        laws: &[
            "select (slt x 0) -1 0 => sshr x top",
            "select (sgt x -1) 0 -1 => sshr x top",
            "select c 1 0 => zresize c if truth c",
            "select c 0 1 => zresize (eq c 0)",
            "select c -1 0 => neg (zresize c) if truth c",
            "select c d 0 => and c d if truth c, truth d",
            "select c 1 d => or c d if truth c, truth d",
        ],
    },
    Group {
        name: "of the smaller or larger",
        why: "languages without an operation for it write a comparison; with a constant it may be one off",
        laws: &[
            "select (slt x y) x y => smin x y",
            "select (slt x y) y x => smax x y",
            "select (sle x y) x y => smin x y",
            "select (sle x y) y x => smax x y",
            "select (sgt x y) x y => smax x y",
            "select (sgt x y) y x => smin x y",
            "select (sge x y) x y => smax x y",
            "select (sge x y) y x => smin x y",
            "select (ult x y) x y => umin x y",
            "select (ult x y) y x => umax x y",
            "select (ule x y) x y => umin x y",
            "select (ule x y) y x => umax x y",
            "select (ugt x y) x y => umax x y",
            "select (ugt x y) y x => umin x y",
            "select (uge x y) x y => umax x y",
            "select (uge x y) y x => umin x y",
            "select (slt x A) x B => smin x B if eq (add B 1) A, ne B largest",
            "select (sgt x A) x B => smax x B if eq (add B -1) A, ne B smallest",
            "select (sgt x A) B x => smin x B if eq (add B -1) A, ne B smallest",
            "select (slt x A) B x => smax x B if eq (add B 1) A, ne B largest",
            "select (ult x A) x B => umin x B if eq (add B 1) A, ne B -1",
            "select (ugt x A) x B => umax x B if eq (add B -1) A, ne B 0",
            "select (ugt x A) B x => umin x B if eq (add B -1) A, ne B 0",
            "select (ult x A) B x => umax x B if eq (add B 1) A, ne B -1",
        ],
    },
    Group {
        name: "of magnitudes",
        why: "the same, for the sign",
        laws: &[
            "select (slt x 0) (neg x) x => abs x",
            "select (slt x 1) (neg x) x => abs x",
            "select (sgt x -1) x (neg x) => abs x",
            "select (sgt x 0) x (neg x) => abs x",
        ],
    },
];
