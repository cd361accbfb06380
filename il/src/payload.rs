//! What nodes say besides their operands.

use std::fmt;

use crate::layout::ObjectKind;
use crate::method::{Block, FrameInfo, GuardInfo, Local, Slot, SwitchTable, VirtualInfo, WideConst};
use crate::module::{ClassId, MethodId, NativeId, SignatureId, SymbolId};
use crate::raise::RaiseKind;
use crate::types::Type;

/// Where an access goes, besides its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// Which memory it may touch.
    pub place: Place,
    /// Added to the address, in bytes.
    pub offset: i32,
    /// What the index operand is multiplied by: 1, 2, 4 or 8.
    pub scale: u8,
}

/// Which memory an access may touch: the alias class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// That of a symbol.
    Symbol(SymbolId),
    /// That of a local whose address is taken.
    Slot(Slot),
}

/// A target of virtual and interface calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dispatch {
    /// The class or interface that declares the slot.
    pub class: ClassId,
    /// The slot's index in its table.
    pub slot: u32,
}

/// What a node says besides its operands. Which variant, the opcode's row says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Nothing.
    #[default]
    None,
    /// The bits of a constant of up to 64 bits; those above the type's width are zero.
    Const(u64),
    /// A constant of 128 bits.
    Wide(WideConst),
    /// A local.
    Local(Local),
    /// A local whose address is taken.
    Slot(Slot),
    /// A memory access.
    Access(Access),
    /// A symbol.
    Symbol(SymbolId),
    /// A method.
    Method(MethodId),
    /// A native function.
    Native(NativeId),
    /// A signature.
    Signature(SignatureId),
    /// A slot of a class's table.
    Dispatch(Dispatch),
    /// A class.
    Class(ClassId),
    /// The element type of an array.
    Element(Type),
    /// A number.
    Index(u32),
    /// A kind, and a reason that only the frontend understands.
    Raise(RaiseKind, u16),
    /// A successor.
    Goto(Block),
    /// The successor if true, and the one if not.
    Branch(Block, Block),
    /// A switch's cases.
    Switch(SwitchTable),
    /// What a frame state is of.
    Frame(FrameInfo),
    /// What a virtual object is of.
    Virtual(VirtualInfo),
    /// Assumptions, and for `guard_br` its successors.
    Guard(GuardInfo),
}

/// A position in the source, as the frontend counts: a byte offset, a bytecode index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourcePos(pub u32);

impl SourcePos {
    /// No position.
    pub const NONE: SourcePos = SourcePos(u32::MAX);
}

impl Default for SourcePos {
    fn default() -> Self {
        SourcePos::NONE
    }
}

/// The cases of a switch, by ascending value.
#[derive(Clone, Copy, Debug)]
pub struct SwitchData<'a> {
    /// Values, as the operand's bits, and their blocks.
    pub cases: &'a [(u64, Block)],
    /// Where every other value goes.
    pub default: Block,
}

/// When, relative to its point, a frame state holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameMode {
    /// Before the operation, which the interpreter executes again.
    Reexecute,
    /// After the operation; its result is on the stack.
    After,
    /// At the raise of an exception.
    Raise,
}

/// What a frame state is of, besides the values that are its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameData {
    /// Whose frame.
    pub method: MethodId,
    /// The position in its source.
    pub position: SourcePos,
    /// Before or after.
    pub mode: FrameMode,
    /// How many operands are locals; they come first.
    pub locals: u16,
    /// How many are on the stack; they follow.
    pub stack: u16,
    /// How many are monitors; they follow. What is left is the parent frame.
    pub monitors: u16,
}

/// What a virtual object is of, besides its operands: the values of its fields, in the order of [`Module::fields`](crate::Module::fields), or
/// of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VirtualData {
    /// Its number in the table of the outermost frame.
    pub id: u32,
    /// What it is.
    pub kind: ObjectKind,
}

/// What a guard stands on.
#[derive(Clone, Copy, Debug)]
pub struct GuardData<'a> {
    /// What is assumed.
    pub assumptions: &'a [Assumption],
    /// For `guard_br`: where it goes while they hold, and once one has failed.
    pub successors: Option<(Block, Block)>,
}

/// A fact about the running program that may stop being true.
///
/// As text it is the rest of a sentence that begins with "that": `method3 is not redefined`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Assumption {
    /// No loaded class extends the class.
    NotExtended(ClassId),
    /// No loaded class overrides the method in the class's slot.
    NotOverridden(ClassId, u32),
    /// The field or static still has its value.
    NotWritten(SymbolId),
    /// The method has not been redefined.
    NotRedefined(MethodId),
    /// The frontend's own condition of this number.
    Custom(u32),
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Assumption::NotExtended(class) => write!(f, "{class} is not extended"),
            Assumption::NotOverridden(class, slot) => write!(f, "slot {slot} of {class} is not overridden"),
            Assumption::NotWritten(symbol) => write!(f, "{symbol} is not written"),
            Assumption::NotRedefined(method) => write!(f, "{method} is not redefined"),
            Assumption::Custom(number) => write!(f, "the frontend's condition {number} holds"),
        }
    }
}
