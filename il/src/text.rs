//! The text form of modules and methods: what people write in tests, read in dumps, and keep in files.
//!
//! ```
//! # use dagwood_il::text;
//! let source = "
//! method @twice ($x: i32) -> (i32) {
//! b0:
//!   %x = entry.i32 $x
//!   %sum = add.i32 %x, %x      ; comments reach to the end of the line
//!   return %sum
//! }";
//! let arena = bumpalo::Bump::new();
//! let parsed = text::parse(source, &arena)?;
//! assert!(text::print_method(&parsed.module, &parsed.bodies[0].method).contains("%1 = add.i32 %0, %0\n"));
//! # Ok::<(), text::ParseError>(())
//! ```
//!
//! # Grammar
//!
//! A line is a statement; only inside `(` and `[` may it continue on the next. `x?` may be missing, `x*` is a list with
//! commas. Everything may be referred to before its line but nodes, and of these the fields of virtual objects may.
//!
//! ```text
//!   item      = signature types -> types                                ; gives a signature its index
//!             | class|interface @name (extends @C)? (implements @I*)? (size n)? { slot… implement… }?
//!             | symbol @name (static T | field @C offset T | element T | region | opaque) (from n to n)? readonly?
//!             | native @name types -> types effects?
//!             | method @name types -> types effects?
//!             | method @name ($name: T*) -> types effects? { local… slot… block… }
//!   types     = (T*)                        effects = reads set writes set raises kinds yields?     ; none: unknown
//!   kinds     = none | all | catchable | kind|kind       set = none | all | [@symbol*]
//!   slot      = slot name types -> types (= @method)?    implement = implement @I.slot = @method    ; of a class
//!   local     = local $name: T                           slot      = slot $name: size align n       ; of a method
//!   block     = bN (extends bM)? (freq x)? (handlers [kinds @C?: bK*])? : line…
//!   line      = (%name =)? opcode(.T)? … (frame %state)? (!position)?
//! ```
//!
//! Blocks are indexed by ascending number, whatever their order in the text; the lowest is where the method is entered.
//! A block stands below the block that it extends. What stands at `…` of a line, the payload kind of the opcode's row
//! says:
//!
//! ```text
//!   operands only        add.i32 %0, %1
//!   payload first        const.f64 1.5     const.v128 0xff    const.ref null    entry.i32 $a    set $a, %1
//!                        castcheck @C, %0  newarray i32, %0   slot_address $buf    method_address @f
//!                        guard [not_extended @C, not_overridden @C.slot, not_written @s, not_redefined @m, custom 3]
//!                        guard_br [custom 3], b1, b2
//!   payload last         br %0, b1, b2     switch %0, [1: b2, -5: b3], b4    result.i64 %5, 1
//!                        check %0, unreachable reason 2       divcheck.i32 %1 reason 2     ; kind: the row's, or named
//!   callee(operands)     call.i32 @f(%0)   call_virtual @C.slot(%0)    call_indirect (i32) -> () (%addr, %context, %0)
//!   place [address] …    load.i32 @mem [%0 + %1*4 + 16]       store @mem [%0 - 8], %2      load.i8 $buf [%0]
//!   lists                frame @f:12 after [%0, dead] [%1] monitors [%2] parent %8         virtual 0 @Point [%0, %1]
//! ```
//!
//! Effects say all that a call may do: one that writes nothing, raises nothing and does not yield goes if nobody uses its results,
//! even if the function prints. `writes all`, or a symbol for the world outside, keeps it.
//!
//! `.T` stands where the type is the node's own; elsewhere it may repeat what the row or the callee says. Integers are
//! decimal or `0x`, with a sign or without; floats are decimal, `inf`, `nan`, or `0x` and their bits. Names of other
//! characters than letters, digits and `_` are quoted: `@"a b"`, with the escapes `\n \r \t \" \\ \u{…}`.
//!
//! # Guarantees
//!
//! * `print(parse(print(x))) == print(x)`, and what is parsed has the same declarations, locals, blocks, roots and
//!   positions, with the same nodes below them. The printer numbers nodes densely in the order of the text, and writes
//!   one that floats just above the first root that needs it; nodes that nothing needs are not written.
//! * The reader builds each node as it is written. It checks what it takes to build: names, counts of operands,
//!   types of constants. All other rules are the verifier's.
//! * Whatever the source holds, reading ends: with what it says or with an error that has a position. Nothing recurses,
//!   and all that grows has a limit below.
//!
//! # Cost
//!
//! Linear in the source, which is cut into tokens three times: for the names, for a body's blocks, for what they say.

mod body;
mod check;
mod constant;
mod cursor;
mod declarations;
mod lex;
mod operation;
mod print;
mod profile;
mod words;

use std::fmt;

use bumpalo::Bump;

pub use check::{Refusal, verify};
pub use print::{print_method, print_module, print_node};
pub use profile::{parse_profile, print_profile};

use crate::entity::Entity;
use crate::method::{Block, Method, Node};
use crate::module::{MethodId, Module};
use crate::verify::Subject;

/// The bytes that a source may have.
pub const MAX_SOURCE_BYTES: usize = 64 << 20;
/// The declarations of one sort that a source may have.
pub const MAX_DECLARATIONS: usize = 1 << 18;
/// The locals that a method may have, and the slots.
pub const MAX_LOCALS: usize = 1 << 20;
/// The blocks that a method may have.
pub const MAX_BLOCKS: usize = 1 << 20;
/// The nodes that the methods of a source may have together.
pub const MAX_NODES: usize = 1 << 23;
/// The different constants of 128 bits that a method may have.
pub const MAX_WIDE_CONSTANTS: usize = 1 << 13;

/// A place in a source: line and column from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Position {
    /// The beginning of a source.
    pub const START: Position = Position { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a source cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; expected {}", self.line, self.column, self.what, self.expected)
    }
}

impl std::error::Error for ParseError {}

/// A method that was read, and where its parts stand in the source.
pub struct Body<'a> {
    /// The method.
    pub method: Method<'a>,
    /// Where its parts stand.
    pub positions: Positions,
}

/// Where the parts of a method stand in the source.
#[derive(Clone, Debug)]
pub struct Positions {
    header: Position,
    nodes: Vec<Position>,
    blocks: Vec<Position>,
    locals: Vec<Position>,
    slots: Vec<Position>,
}

impl Positions {
    /// The method's name.
    pub fn method(&self) -> Position {
        self.header
    }

    /// The beginning of a node's line; none for a node that was made since.
    pub fn node(&self, node: Node) -> Option<Position> {
        self.nodes.get(node.index()).copied()
    }

    /// The beginning of a block's first line; none for a block that was made since.
    pub fn block(&self, block: Block) -> Option<Position> {
        self.blocks.get(block.index()).copied()
    }

    /// Where what a verifier's error is about stands; none if it was made since, or belongs to the module.
    pub fn subject(&self, subject: Subject) -> Option<Position> {
        match subject {
            Subject::Method => Some(self.header),
            Subject::Block(block) => self.block(block),
            Subject::Root(block, _, node) => self.node(node).or_else(|| self.block(block)),
            Subject::Node(node) => self.node(node),
            Subject::Local(local) => self.locals.get(local.index()).copied(),
            Subject::Slot(slot) => self.slots.get(slot.index()).copied(),
            _ => None,
        }
    }
}

/// What a source holds.
pub struct Source<'a> {
    /// The declarations.
    pub module: Module,
    /// The methods that have bodies, in the order of the text.
    pub bodies: Vec<Body<'a>>,
    positions: declarations::Positions,
}

impl Source<'_> {
    /// Where the declaration stands that a verifier's error is about; none if it is about something else.
    pub fn position(&self, subject: Subject) -> Option<Position> {
        let positions = &self.positions;
        let (positions, index) = match subject {
            Subject::Class(id) => (&positions.classes, id.index()),
            Subject::Symbol(id) => (&positions.symbols, id.index()),
            Subject::Declaration(id) => (&positions.methods, id.index()),
            Subject::Native(id) => (&positions.natives, id.index()),
            _ => return None,
        };
        positions.get(index).copied()
    }
}

/// Reads a source; the methods' bodies live in `arena`.
///
/// # Errors
///
/// The first thing in the source that cannot be read, with its place and with what would be right.
pub fn parse<'a>(source: &str, arena: &'a Bump) -> Result<Source<'a>, ParseError> {
    if source.len() > MAX_SOURCE_BYTES {
        let what = format!("the source has {} bytes", source.len());
        return Err(ParseError { line: 1, column: 1, what, expected: format!("at most {MAX_SOURCE_BYTES}") });
    }
    let mut declarations = declarations::Declarations::read(source)?;
    let starts = std::mem::take(&mut declarations.bodies);
    let mut nodes_left = MAX_NODES;
    let mut bodies = Vec::with_capacity(starts.len());
    for start in starts {
        bodies.push(body::read(start, &mut declarations, arena, &mut nodes_left)?);
    }
    Ok(Source { module: declarations.module, bodies, positions: declarations.positions })
}

/// Reads the bodies of a source again, one by one and in any order: compilations want them in arenas of their own.
pub struct Reader<'s> {
    declarations: declarations::Declarations<'s>,
}

impl<'s> Reader<'s> {
    /// A reader of the source that was `parsed`; what it reads refers to that module.
    ///
    /// # Errors
    ///
    /// If the source is another one.
    pub fn new(source: &'s str, parsed: &Source<'_>) -> Result<Reader<'s>, ParseError> {
        let mut declarations = declarations::Declarations::read(source)?;
        let (read, known) = (&declarations.module, &parsed.module);
        if (&read.methods, &read.natives) != (&known.methods, &known.natives)
            || (&read.classes, &read.symbols) != (&known.classes, &known.symbols)
        {
            let (what, expected) =
                ("other declarations than before".into(), "the source that was read".into());
            return Err(ParseError { line: 1, column: 1, what, expected });
        }
        declarations.bodies.sort_by_key(|start| start.id);
        // With the signatures that only bodies mention, so that these have the same numbers whatever is read first.
        declarations.module = parsed.module.clone();
        Ok(Reader { declarations })
    }

    /// The body of a method; none if it has none.
    ///
    /// # Errors
    ///
    /// As [`parse`], if the source is another one.
    pub fn body<'a>(&mut self, method: MethodId, arena: &'a Bump) -> Result<Option<Body<'a>>, ParseError> {
        let bodies = &self.declarations.bodies;
        let Ok(index) = bodies.binary_search_by_key(&method, |start| start.id) else { return Ok(None) };
        let start = bodies[index].clone();
        body::read(start, &mut self.declarations, arena, &mut { MAX_NODES }).map(Some)
    }
}

/// Reads a source that may not be text at all.
///
/// # Errors
///
/// As [`parse`], and the first byte that is not UTF-8.
pub fn parse_bytes<'a>(source: &[u8], arena: &'a Bump) -> Result<Source<'a>, ParseError> {
    match std::str::from_utf8(source) {
        Ok(source) => parse(source, arena),
        Err(error) => {
            let text = String::from_utf8_lossy(&source[..error.valid_up_to()]);
            let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
            let line = count(text.matches('\n').count());
            let column = count(text.rsplit('\n').next().unwrap_or_default().chars().count());
            let what = format!("the byte 0x{:02x} is not UTF-8", source[error.valid_up_to()]);
            Err(ParseError { line, column, what, expected: "text in UTF-8".into() })
        }
    }
}
