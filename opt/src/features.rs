//! What a method has that passes may work on: one scan, so that rows of a strategy are left out where they have nothing to do.
//!
//! *Guarantees.* A feature that is missing is not in the method. One that is there may turn out to be none, as a back edge that closes
//! no natural loop. Which operations have a feature their rows in the opcode table say.
//!
//! *Cost.* Linear in blocks and roots; nodes that float are not looked at.

use std::fmt;

use dagwood_il::entity::Entity;
use dagwood_il::opcode::{PayloadKind, Row, TABLE};
use dagwood_il::{Frequency, Method, Node, Payload, Place, Properties};

/// A set of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(u32);

/// Declares the features: documentation, constant, bit, the words for it.
macro_rules! features {
    ($($(#[$doc:meta])* $name:ident = $bit:literal $words:literal;)*) => {
        impl Features {
            $($(#[$doc])* pub const $name: Features = Features(1 << $bit);)*
        }

        /// Each feature with its name.
        const NAMES: &[(Features, &str)] = &[$((Features::$name, $words)),*];
    };
}

features! {
    /// An edge leads back, so that there may be a loop.
    LOOPS = 0 "loops";
    /// There is more than one extended block.
    HEADS = 1 "several heads";
    /// A block ends in a choice.
    BRANCHES = 2 "branches";
    /// A block ends in a switch.
    SWITCHES = 3 "switches";
    /// Memory is read.
    LOADS = 4 "loads";
    /// Memory is written.
    STORES = 5 "stores";
    /// A root, not a call, may raise: checks, divisions.
    CHECKS = 6 "checks";
    /// There are calls.
    CALLS = 7 "calls";
    /// Objects are made.
    ALLOCATIONS = 8 "allocations";
    /// Memory is ordered with other threads: monitors, fences.
    SYNCHRONISATION = 9 "synchronisation";
    /// A block has handlers.
    HANDLERS = 10 "handlers";
    /// Compiled code may be left.
    GUARDS = 11 "guards";
    /// Locals are set.
    SETS = 12 "locals that are set";
    /// It is known of a block that it runs at least once for each entry of the method.
    PROFILE = 13 "known frequencies";
    /// Something may be computed, loaded or checked twice: in several extended blocks, or a place is read after it was accessed, or a
    /// check made after one of its kind.
    RECURRENCE = 14 "anything twice";
    /// A block ends in a choice, or a root may raise: there may be something to decide.
    DECISIONS = 15 "anything to decide";
}

impl Features {
    /// No feature.
    pub const NONE: Features = Features(0);

    /// Both sets together.
    pub const fn union(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    /// Whether every feature of `other` is in the set.
    pub const fn has(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of this set that are not in the other.
    pub const fn without(self, other: Features) -> Features {
        Features(self.0 & !other.0)
    }

    /// The features of a method.
    pub fn of(method: &Method<'_>) -> Features {
        let mut found = Features::NONE;
        let mut heads = 0;
        let mut seen = Seen::default();
        for block in method.blocks() {
            let data = method.block(block);
            heads += u32::from(data.extends.is_none());
            found.note(data.frequency.is_some_and(|own| own >= Frequency::ONCE), Features::PROFILE);
            found.note(data.handlers.is_some(), Features::HANDLERS);
            found.note(method.successors(block).iter().any(|to| *to <= block), Features::LOOPS);
            for root in data.roots {
                let opcode = method.opcode(root.node);
                found = found.union(BY_OPCODE[opcode as usize]);
                let divides = opcode.has(Properties::ROOT_UNLESS_PROVEN);
                let is_check = divides && method.is_root(root.node);
                found.note(is_check, Features::CHECKS.union(Features::DECISIONS));
                seen.note(method, root.node);
            }
        }
        found.note(heads > 1, Features::HEADS);
        found.note(heads > 1 || seen.anything_twice, Features::RECURRENCE);
        found
    }

    fn note(&mut self, is_there: bool, feature: Features) {
        if is_there {
            *self = self.union(feature);
        }
    }

    /// Those of a root with this row; that it may raise unless proven not to is asked of the root itself.
    const fn of_row(row: &Row) -> Features {
        let chooses = matches!(row.payload, PayloadKind::Branch | PayloadKind::Switch);
        let goes_on = !row.has(Properties::CALLS) && !row.has(Properties::TERMINATES);
        let raises = matches!(row.payload, PayloadKind::Raise) || !row.raises.is_empty();
        let is_proven_elsewhere = row.has(Properties::ROOT_UNLESS_PROVEN);
        let sets = matches!(row.payload, PayloadKind::Local) && row.has(Properties::ROOT);
        let all = [
            (chooses, Features::BRANCHES),
            (chooses || raises && goes_on && !is_proven_elsewhere, Features::DECISIONS),
            (matches!(row.payload, PayloadKind::Switch), Features::SWITCHES),
            (row.has(Properties::READS), Features::LOADS),
            (row.has(Properties::WRITES), Features::STORES),
            (raises && goes_on && !is_proven_elsewhere, Features::CHECKS),
            (row.has(Properties::CALLS), Features::CALLS),
            (row.has(Properties::ALLOCATES), Features::ALLOCATIONS),
            (row.has(Properties::SYNCHRONISES), Features::SYNCHRONISATION),
            (row.has(Properties::LEAVES), Features::GUARDS),
            (sets, Features::SETS),
        ];
        let mut found = Features::NONE;
        let mut i = 0;
        while i < all.len() {
            if all[i].0 {
                found = found.union(all[i].1);
            }
            i += 1;
        }
        found
    }
}

/// What roots have been seen to do: a bit for each kind of check, and one for the places of accesses that share it.
#[derive(Default)]
struct Seen {
    checks: [u64; 4],
    places: u64,
    anything_twice: bool,
}

impl Seen {
    fn note(&mut self, method: &Method<'_>, root: Node) {
        let opcode = method.opcode(root);
        let (word, bit) = match method.payload(root) {
            Payload::Access(access) => {
                let place = match access.place {
                    Place::Symbol(symbol) => symbol.index(),
                    Place::Slot(slot) => slot.index(),
                };
                (&mut self.places, 1 << (place % 64))
            }
            _ if opcode.has(Properties::FUNCTION) => {
                (&mut self.checks[opcode as usize / 64 % 4], 1 << (opcode as usize % 64))
            }
            _ => return,
        };
        let may_know = opcode.has(Properties::READS) || opcode.has(Properties::FUNCTION);
        self.anything_twice |= may_know && *word & bit != 0;
        *word |= bit;
    }
}

/// The features of each opcode's roots.
const BY_OPCODE: [Features; TABLE.len()] = {
    let mut features = [Features::NONE; TABLE.len()];
    let mut i = 0;
    while i < TABLE.len() {
        features[i] = Features::of_row(&TABLE[i]);
        i += 1;
    }
    features
};

/// The names, with commas; `nothing` for none.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            NAMES.iter().filter(|(feature, _)| self.has(*feature)).map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "nothing".into() } else { names.join(", ") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use dagwood_il::{Bump, text};

    use super::*;

    fn features(source: &str) -> Features {
        let arena = Bump::new();
        let parsed = text::parse(source, &arena).expect("valid");
        Features::of(&parsed.bodies[0].method)
    }

    #[test]
    fn a_scan_finds_what_is_there_and_nothing_else() {
        assert_eq!(features("method @f () -> () {\nb0:\n  return\n}\n"), Features::NONE);
        let busy = features(
            "symbol @m region\nmethod @f ($x: i32) -> () {\nb0:\n  %0 = entry.i32 $x\n  %1 = const.i32 1\n  %2 = udiv.i32 %1, %0\n\
             \x20 set $x, %2\n  br %2, b0, b1\nb1:\n  raise unreachable\n}\n",
        );
        let expected = [
            Features::LOOPS,
            Features::HEADS,
            Features::BRANCHES,
            Features::CHECKS,
            Features::SETS,
            Features::RECURRENCE,
            Features::DECISIONS,
        ];
        assert_eq!(busy, expected.into_iter().fold(Features::NONE, Features::union), "{busy}");
        let words =
            "loops, several heads, branches, checks, locals that are set, anything twice, anything to decide";
        assert_eq!(busy.to_string(), words);
    }

    #[test]
    fn what_is_read_after_an_access_or_checked_again_recurs() {
        let of = |roots: &str| {
            let source = format!(
                "symbol @m region\nsymbol @n region\nmethod @f ($x: i32) -> () {{\nb0:\n  %0 = entry.i32 $x\n  %1 = context\n{roots}  return\n}}\n"
            );
            features(&source).has(Features::RECURRENCE)
        };
        let load = |name, place| format!("  %{name} = load.i32 @{place} [%1]\n");
        let store = |place| format!("  store @{place} [%1], %0\n");
        let check = |name| format!("  %{name} = boundscheck.i32 %0, %0 !1\n");
        assert!(of(&[load(2, "m"), load(3, "m")].concat()));
        assert!(of(&[store("m"), load(2, "m")].concat()));
        assert!(of(&[check(2), check(3)].concat()));
        assert!(!of(&[load(2, "m"), load(3, "n"), store("m"), store("m"), check(4)].concat()));
    }

    #[test]
    fn a_proven_division_is_no_check() {
        let proven = "method @f ($x: i32) -> (i32) {\nb0:\n  %0 = entry.i32 $x\n  %1 = const.i32 3\n  %2 = udiv.i32 %0, %1\n  return %2\n}\n";
        assert_eq!(features(proven), Features::NONE);
    }
}
