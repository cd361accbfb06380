//! What the reader and the printer must agree on: words, and where a row's payload stands on its line.

use super::lex::is_name_byte;
use crate::method::{Assumption, FrameMode};
use crate::opcode::{PayloadKind, Properties, Row};
use crate::raise::KindSet;

/// What a module consists of, for messages.
pub(super) const ITEMS: &str = "`signature`, `class`, `interface`, `symbol`, `native` or `method`";

/// The kinds of symbols, for messages.
pub(super) const SYMBOL_KINDS: &str =
    "the kind of symbol: `static`, `field`, `element`, `region` or `opaque`";

/// Sets of kinds that have a name of their own.
pub(super) const KIND_SETS: &[(&str, KindSet)] =
    &[("none", KindSet::NONE), ("all", KindSet::ALL), ("catchable", KindSet::CATCHABLE)];

/// The modes of a frame state.
pub(super) const FRAME_MODES: &[(&str, FrameMode)] =
    &[("reexecute", FrameMode::Reexecute), ("after", FrameMode::After), ("raise", FrameMode::Raise)];

/// An assumption without what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// `@class`
    Extension,
    /// `@class.slot`
    Override,
    /// `@symbol`
    Write,
    /// `@method`
    Redefinition,
    /// A number.
    Custom,
}

/// The words for assumptions.
pub(super) const ASSUMPTIONS: &[(&str, About)] = &[
    ("not_extended", About::Extension),
    ("not_overridden", About::Override),
    ("not_written", About::Write),
    ("not_redefined", About::Redefinition),
    ("custom", About::Custom),
];

/// What an assumption is about.
pub(super) fn about(assumption: &Assumption) -> About {
    match assumption {
        Assumption::NotExtended(_) => About::Extension,
        Assumption::NotOverridden(..) => About::Override,
        Assumption::NotWritten(_) => About::Write,
        Assumption::NotRedefined(_) => About::Redefinition,
        Assumption::Custom(_) => About::Custom,
    }
}

/// The word of a table that stands for `value`.
pub(super) fn word_for<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> Option<&'static str> {
    table.iter().find(|(_, of)| of == value).map(|(word, _)| *word)
}

/// Where the payload and the operands of a row stand on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Operands only.
    Plain,
    /// Payload, then operands: `set $a, %1`.
    Leading,
    /// Operands, then payload: `br %1, b2, b3`.
    Trailing,
    /// A callee, and its arguments in parentheses: `call @f(%0)`.
    Callee,
    /// A place, an address in brackets, then the other operands: `store @mem [%0 + 8], %1`.
    Address,
    /// Lists of operands: `frame @f:3 after [%0] [%1]`, `virtual 0 @Point [%2, %3]`.
    Lists,
}

/// The shape of a row's line.
pub(super) fn shape(row: &Row) -> Shape {
    match row.payload {
        PayloadKind::None => Shape::Plain,
        PayloadKind::Access => Shape::Address,
        PayloadKind::Frame | PayloadKind::Virtual => Shape::Lists,
        PayloadKind::Index
        | PayloadKind::Raise
        | PayloadKind::Goto
        | PayloadKind::Branch
        | PayloadKind::Switch => Shape::Trailing,
        _ if row.has(Properties::CALLS) => Shape::Callee,
        _ => Shape::Leading,
    }
}

/// Whether a name after a sigil needs no quotes.
pub(super) fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_name_byte)
}

/// Whether a name without a sigil needs no quotes.
pub(super) fn is_word(name: &str) -> bool {
    is_bare(name) && !name.as_bytes()[0].is_ascii_digit()
}
