//! The verifier. What it checks is the specification of well-formed IL: the rules, one by one, are the variants of
//! [`Rule`] below.
//!
//! ```text
//!   tables ──► structure ──► types, places, frames ──► assignment
//!   all that   blocks, ends, each used node against    locals along
//!   is named   extensions,   its row; each use where   every path
//!   exists     handlers      its value is available
//! ```
//!
//! Each stage relies on those before it and is skipped if one of these found something.
//!
//! A node is *used* if a root in a block's list needs it, directly or not. Nodes that are not used only have to exist
//! properly: passes leave them behind. Blocks that cannot be reached keep every rule but [`Rule::Assigned`].
//!
//! # Guarantees
//!
//! * Whatever a method holds, the verifier ends and does not panic; what it accepts, nothing else need check again.
//! * An error names the rule, the place, and what would be right. There are at most [`MAX_ERRORS`] of them.
//! * Nothing recurses.
//!
//! # Cost
//!
//! Linear in nodes, operands, roots and edges, times at most [`MAX_EXTENSION_DEPTH`](crate::MAX_EXTENSION_DEPTH) for
//! uses far below their values; then one [`dataflow`](crate::dataflow) analysis.

mod declarations;
mod frames;
mod places;
mod structure;
mod tables;
mod types;

use std::fmt;

use crate::cfg::Cfg;
use crate::dataflow::unassigned_reads;
use crate::method::{Block, Local, Method, Node, Payload, Slot};
use crate::module::{ClassId, MethodId, Module, NativeId, SignatureId, SymbolId};

pub use declarations::verify_module;

/// How many errors are reported at once.
pub const MAX_ERRORS: usize = 32;

/// How many edges, those to handlers included, a method may have.
pub const MAX_EDGES: usize = 1 << 24;

/// How many bytes the slots of a method may have together.
pub const MAX_SLOT_BYTES: u64 = 1 << 24;

/// Declares the rules: what each one says, and its name.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident $name:literal;)*) => {
        /// A rule of well-formed IL.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Rule] = &[$(Rule::$rule),*];

            /// The name that errors show.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Rule::$rule => $name,)*
                }
            }
        }
    };
}

rules! {
    // ---- tables ----
    /// What a node, block or guard names is there: operands, blocks, locals, slots, entries of the method's tables, and
    /// the module's declarations with their signatures.
    Exists "exists";
    /// A node carries the payload that its row asks for.
    Payload "payload";
    /// A node has the operands of its row: all of them, or all but the last where the row lets it be missing; more only
    /// where the row is variadic; and a frame state after them only where the row takes one.
    OperandCount "operand-count";
    /// A node stands after its operands in the node table, but for virtual objects that hold each other.
    OperandOrder "operand-order";

    // ---- structure ----
    /// The first block exists, is a head, and is entered from nowhere else.
    EntryBlock "entry-block";
    /// A block has roots; the last one, and no other, ends it.
    BlockEnd "block-end";
    /// A block that extends another is entered from the end of that one, if at all, and from nowhere else; it has fewer
    /// than `MAX_EXTENSION_DEPTH` blocks above it.
    Extension "extension";
    /// A handler's block is a head that is entered by raises only. A handler catches some kind, never `fault`, and names
    /// a class only if it catches `guest`.
    Handler "handler";
    /// The cases of a switch ascend, without repetition, and fit its operand.
    SwitchCases "switch-cases";
    /// The first locals are the signature's parameters; each local holds a value and has a name of its own.
    Locals "locals";
    /// A slot has a name of its own, some bytes, and an alignment of 1, 2, 4, 8 or 16.
    Slots "slots";
    /// A method stays within `MAX_EDGES`, `MAX_SLOT_BYTES` and the bounds of the dataflow framework.
    Size "size";

    // ---- types ----
    /// An operand has a type that the row allows.
    OperandType "operand-type";
    /// A node has a type that the row allows: its own, a fixed one, or the first result of the callee.
    ResultType "result-type";
    /// A conversion goes from narrower to wider, wider to narrower, or between equal widths, as the row says; a bit cast
    /// neither makes nor takes a reference.
    Width "width";
    /// A constant fits its type. A reference constant is null; 128 bits are for `v128` alone.
    Constant "constant";
    /// `entry` and `set` have the type of their local.
    LocalType "local-type";
    /// An access has a scale of 1, 2, 4 or 8, which is 1 where there is no index. What it reads or writes is no wider
    /// than what the symbol's memory holds, and a reference exactly where the symbol holds references. An array's element
    /// type is one of a value; fields and elements have no address of their own.
    Access "access";
    /// A row with kinds raises the lowest of them by its payload; `check` and `raise` raise any kind but `guest` and
    /// `fault`.
    RaiseKind "raise-kind";
    /// Objects are made of classes, not of interfaces. `call_virtual` names a class, `call_interface` an interface.
    ClassKind "class-kind";
    /// A call has the arguments that the callee's signature asks for.
    CallArguments "call-arguments";
    /// `result` names a result of a call, from the second on, and has its type.
    ResultNumber "result-number";
    /// `return` has the results of the method's signature.
    Return "return";
    /// A tail call's callee has this method's results.
    TailCall "tail-call";
    /// Frame states, `dead` and `virtual` stand only in frame states and virtual objects, and a frame state as the last
    /// operand of a row that takes one.
    FrameOperand "frame-operand";

    // ---- places ----
    /// A used root stands in one block's list, once; what is no root stands in none.
    RootPlace "root-place";
    /// A node is used within one extended block.
    ExtendedBlock "extended-block";
    /// A root needs only values that are there: of roots before it, in its block or a block above it.
    Availability "availability";
    /// `caught` and `caught_kind` are used only in an extended block whose head is a handler.
    Caught "caught";
    /// The address of a reference, and what is computed from it without memory, is not used at or after the next yield
    /// point, nor set, stored, returned, thrown or kept in a frame state.
    RefAddress "ref-address";

    // ---- frame states and guards ----
    /// A frame state has as many operands as its locals, stack, monitors and parent. Slots hold values, `dead` or
    /// `virtual`; monitors hold references or `virtual`; the parent is a frame state. A virtual object has a class that
    /// is no interface; a virtual array has elements that are not references, or their class.
    FrameSlots "frame-slots";
    /// A frame state is of one moment: from the first root of a path that carries it, or leaves by it if its mode is
    /// `after`, to a root that leaves by it, no root is observable (writes or synchronises). After one, the next moment has
    /// another node, even an equal one.
    FrameMoment "frame-moment";
    /// A guard assumes something, of statics and fields if of memory. `guard` has a frame state, not of mode `raise`, and
    /// no successors; `guard_br` has successors.
    Guard "guard";

    // ---- assignment ----
    /// A local that is no parameter is set on every path to where it is read, exceptional paths included.
    Assigned "assigned";

    // ---- declarations ----
    /// Declarations of one sort have names of their own.
    Names "names";
    /// Parameters, results, statics, fields and elements are values. A range holds a number.
    Values "values";
    /// A class follows what it extends and implements: a class and interfaces. It is no smaller than its superclass.
    Hierarchy "hierarchy";
    /// A class's table starts with its superclass's: the same names and signatures. Every slot takes the receiver, a
    /// reference, first; its method has its signature.
    ClassSlots "class-slots";
    /// An implementation is for a slot of an interface, by a method with its signature.
    Implementation "implementation";
    /// A field lies within the objects of its class, not within its superclass's part, and apart from the class's others.
    Fields "fields";
    /// The symbols that a callee's effects name are there, ascending.
    Effects "effects";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The method as a whole.
    Method,
    /// A block.
    Block(Block),
    /// A root, at a position of a block's list.
    Root(Block, u32, Node),
    /// A node that is in no list.
    Node(Node),
    /// A local.
    Local(Local),
    /// A slot.
    Slot(Slot),
    /// A signature of the module.
    Signature(SignatureId),
    /// A class of the module.
    Class(ClassId),
    /// A symbol of the module.
    Symbol(SymbolId),
    /// A method of the module.
    Declaration(MethodId),
    /// A native function of the module.
    Native(NativeId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Method => f.write_str("the method"),
            Subject::Block(block) => write!(f, "{block}"),
            Subject::Root(block, position, node) => write!(f, "{block}, root {position}, {node}"),
            Subject::Node(node) => write!(f, "{node}"),
            Subject::Local(local) => write!(f, "{local}"),
            Subject::Slot(slot) => write!(f, "{slot}"),
            Subject::Signature(id) => write!(f, "{id}"),
            Subject::Class(id) => write!(f, "{id}"),
            Subject::Symbol(id) => write!(f, "{id}"),
            Subject::Declaration(id) => write!(f, "{id}"),
            Subject::Native(id) => write!(f, "{id}"),
        }
    }
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyError {
    /// The rule.
    pub rule: Rule,
    /// Where.
    pub subject: Subject,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl VerifyError {
    /// The node to show, if the place is one.
    pub fn node(&self) -> Option<Node> {
        match self.subject {
            Subject::Root(_, _, node) | Subject::Node(node) => Some(node),
            _ => None,
        }
    }

    /// The block to show, if it is known.
    pub fn block(&self) -> Option<Block> {
        match self.subject {
            Subject::Root(block, ..) | Subject::Block(block) => Some(block),
            _ => None,
        }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.subject, self.message, self.rule)
    }
}

impl std::error::Error for VerifyError {}

/// Whether `method` is well-formed. The declarations it refers to should have passed [`verify_module`].
///
/// # Errors
///
/// The rules that it breaks, the first [`MAX_ERRORS`] of them.
pub fn verify(module: &Module, method: &Method<'_>) -> Result<(), Vec<VerifyError>> {
    let mut errors = Errors::default();
    tables::check(module, method, &mut errors);
    errors.stage()?;
    let shape = structure::check(module, method, &mut errors);
    errors.stage()?;
    let uses = places::Uses::collect(method, &shape, &mut errors);
    let cx = Cx { module, method, shape, uses };
    types::check(&cx, &mut errors);
    places::check(&cx, &mut errors);
    frames::check(&cx, &mut errors);
    errors.stage()?;
    check_assignment(&cx, &mut errors);
    errors.stage()
}

/// What the later stages share.
struct Cx<'v, 'a> {
    module: &'v Module,
    method: &'v Method<'a>,
    shape: structure::Shape,
    uses: places::Uses,
}

impl Cx<'_, '_> {
    /// Where to show an error about a node.
    fn subject(&self, node: Node) -> Subject {
        self.shape.subject(node)
    }

    /// The nodes that roots need, ascending.
    fn used_nodes(&self) -> impl Iterator<Item = Node> {
        self.method.nodes().filter(|node| self.uses.heads[*node].is_some())
    }
}

fn check_assignment(cx: &Cx<'_, '_>, errors: &mut Errors) {
    let cfg = Cfg::compute(cx.module, cx.method);
    let reads = match unassigned_reads(cx.method, &cfg, &cx.uses.heads) {
        Ok(reads) => reads,
        Err(error) => return errors.add(Rule::Size, Subject::Method, format_args!("{error}")),
    };
    for node in reads {
        if let (Payload::Local(local), Some(head)) = (cx.method.payload(node), cx.uses.heads[node]) {
            let name = cx.method.local(local).name;
            errors.add(
                Rule::Assigned,
                Subject::Node(node),
                format_args!("a path to {head} does not set `${name}`, which is read there; every path must"),
            );
        }
    }
}

/// The errors found so far.
#[derive(Default)]
struct Errors {
    list: Vec<VerifyError>,
}

impl Errors {
    fn add(&mut self, rule: Rule, subject: Subject, message: fmt::Arguments<'_>) {
        if self.list.len() < MAX_ERRORS {
            self.list.push(VerifyError { rule, subject, message: message.to_string() });
        }
    }

    /// Ends a stage: those after it rely on what it checked.
    fn stage(&mut self) -> Result<(), Vec<VerifyError>> {
        if self.list.is_empty() { Ok(()) } else { Err(std::mem::take(&mut self.list)) }
    }
}

#[cfg(test)]
mod tests;
