//! What a compilation yields: code, what must still be filled in, and what the runtime must know about it.
//!
//! ```text
//!   code:  | entry … call f ─┬─ … hot | cold: call raise ─┬─ |
//!                            └ Site: return offset, position, handlers
//! ```
//!
//! An artifact owns its memory, names nothing of the compiler that made it, and is relocatable: until
//! its relocations and calls are filled in it may be placed at any address that is a multiple of `align`.
//!
//! # Calls
//!
//! ```text
//!   as compiled    nop × (len - 6) │ call [rip + 0]      the return address is the end of the window
//!   in reach       nop … │ call rel32 │ nop …            the field inside one aligned word, so that one store redirects it
//!   out of reach   nop … │ call [rip + slot]
//! ```
//!
//! The window of a [`Call`] holds that call alone. Whoever installs the code chooses the form, and may let the call end
//! before the end of its window. A [`Site`] whose return offset is the end of a window belongs to that call, and its return
//! address is then the one that was chosen. All other sites' return addresses are as compiled.

use dagwood_il::layout::ObjectKind;
use dagwood_il::{ClassId, FrameMode, KindSet, MethodId, NativeId, RaiseKind, SourcePos, SymbolId, Type};

/// Relocatable machine code with the metadata of one compiled method or stub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifact {
    /// The machine code, constants included.
    pub code: Vec<u8>,
    /// The alignment that the code needs, in bytes; a power of two. One, unless it holds constants.
    pub align: u32,
    /// What to fill in once addresses are known, by ascending offset. None lies in a call's window.
    pub relocs: Vec<Reloc>,
    /// The calls whose form is chosen at installation, by ascending offset. Windows do not overlap.
    pub calls: Vec<Call>,
    /// Direct calls that are not among `calls`, because the address is kept in a place of its own between being loaded and
    /// being called. Their targets are relocations of kind [`RelocKind::Load`].
    pub scattered_calls: u32,
    /// The branches that close the loops of the code that is not rarely run: the hottest first, of those that are equally hot
    /// the first; at most [`MAX_BACK_EDGES`](crate::MAX_BACK_EDGES).
    pub back_edges: Vec<BackEdge>,
    /// One entry for each return address from which a raise may be unwound, by ascending return offset.
    pub sites: Vec<Site>,
    /// The handlers that sites refer to; a site names a range of this list.
    pub handlers: Vec<Landing>,
    /// Where frames have references, as distances below the frame pointer in bytes; a site's [`ReferenceMap`] is a range of this
    /// list.
    pub references: Vec<u32>,
    /// Whether it has values that are references, be it while no map lists them.
    pub has_references: bool,
    /// Whether a handler of it takes what was raised for a reference.
    pub catches_references: bool,
    /// The frame states of sites, each with its parent.
    pub frames: Vec<FrameState>,
    /// Where what frame states and virtual objects name is; each names a range of this list.
    pub locations: Vec<Location>,
    /// The objects in frame states that were optimized away. They may hold each other.
    pub virtuals: Vec<VirtualObject>,
    /// The bytes of stack that one activation takes, return address and saved frame pointer included.
    pub frame_size: u32,
    /// How its registers were allocated.
    pub allocation: Allocation,
    /// Where each root's machine code begins: (code offset, node index, source position), by offset. Only filled on request.
    pub listing: Vec<ListingLine>,
}

/// How registers were allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// By searching: good code.
    #[default]
    Searched,
    /// In one pass, because the method is too large to search: slow code.
    OnePass,
}

/// A field of the code that holds an address known only at installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloc {
    /// The offset of the field in the code.
    pub offset: u32,
    /// How the field holds the address.
    pub kind: RelocKind,
    /// Whose address.
    pub target: RelocTarget,
    /// Added to the address.
    pub addend: i64,
}

/// How a field holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocKind {
    /// Four bytes, the address less that of the field: `S + A - P`. The field ends a `call` or `jmp`, which is not patched.
    Rel4,
    /// The four bytes of the displacement in `mov r64, [rip + displacement]`, which is seven bytes long and ends with the
    /// field: `REX.W 8b /r` with `modrm & 0xc7 == 5`. The register is to hold the address, `S + A`. So the displacement leads
    /// to an eight-byte word that holds the address; or the opcode becomes that of `lea`, `8d`, and the displacement leads to
    /// the address itself; or the instruction becomes `mov r64, imm32`, `REX.W c7 /0`, with the address as its immediate.
    Load,
}

/// A call of a target that is known before the code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Where its window starts.
    pub start: u32,
    /// The bytes of the window, 9 or 10.
    pub len: u8,
    /// What is called: a method or a helper.
    pub target: RelocTarget,
}

impl Call {
    /// Where its window ends.
    pub fn end(&self) -> u32 {
        self.start + u32::from(self.len)
    }
}

/// A branch or jump that closes a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackEdge {
    /// Where it starts: at the compare directly before a branch, if the processor executes both as one.
    pub start: u32,
    /// Where the branch or jump ends.
    pub end: u32,
    /// How often it runs for one entry of the method, in units of 1/1024, as a [`Frequency`](dagwood_il::Frequency): its
    /// block's, if it has one. Else eight times as often for each loop that it stands in, up to six loops.
    pub frequency: u32,
}

/// What a relocation points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RelocTarget {
    /// The code of a method.
    Method(MethodId),
    /// A native function's entry.
    Native(NativeId),
    /// One of the runtime's helpers.
    Helper(Helper),
    /// The storage of a static symbol.
    Symbol(SymbolId),
    /// The description of a class or of a kind of array, laid out as [`dagwood_il::layout::description`] says.
    Description(ObjectKind),
    /// The artifact's own code.
    Own,
}

/// The runtime's helpers that compiled code calls.
///
/// *raising* helpers never return to their caller: they find the site of their return address and unwind from there. They
/// and [`Helper::Poll`] are called out of the way of hot code, by `call rel32`, through a stub if they are out of reach.
/// The others are called through windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Helper {
    /// Raising; `tail` convention, no parameters: raise what the site's [`Site::raises`] says.
    RaiseSite,
    /// Raising; `tail` convention, `(object: i64)`: throw a guest exception.
    Throw,
    /// `system_v` `(context, word: i64, buffer: *mut [u8; 16])`: which function and how many slots is the word of a
    /// [`NativeWord`](dagwood_il::layout::NativeWord); arguments are in the buffer's slots, results come back in the same
    /// slots. Unwinds from the call's site if the native function raised.
    CallNative,
    /// `preserve_all`, no parameters; keeps every register but the flags, of vectors the low 128 bits: what a poll does when it is
    /// asked to stop; may unwind from the call's site.
    Poll,
    /// `system_v` `(description: i64, length: i64) -> i64`: makes an object of the class or kind of array that is described, zero but
    /// for its header, whatever that takes; the length of an array is not negative. Unwinds from the call's site if memory is
    /// used up.
    Allocate,
    /// `system_v` `(description: i64, class: i64) -> i32`: whether objects with the first description are of the class that the second
    /// one describes.
    InstanceOf,
    /// `system_v` `(destination, source, bytes)`: copies, overlapping allowed.
    MemoryCopy,
    /// `system_v` `(destination, byte: i32, bytes)`: fills.
    MemoryFill,
    /// `system_v` `(left, right, bytes) -> i32`: compares as unsigned bytes; negative, zero or positive.
    MemoryCompare,
    /// `system_v` `(f32, f32) -> f32`: the remainder of a truncated division.
    FremF32,
    /// `system_v` `(f64, f64) -> f64`: the remainder of a truncated division.
    FremF64,
    /// `system_v` `(f32, f32, f32) -> f32`: fused multiply-add, where the machine has none.
    FmaF32,
    /// `system_v` `(f64, f64, f64) -> f64`: fused multiply-add, where the machine has none.
    FmaF64,
    /// `system_v` `(f32) -> f32` or `(f64) -> f64`: rounding, where the machine has none.
    Round(Rounding, FloatWidth),
}

/// A direction of rounding to an integral value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rounding {
    /// Toward negative infinity.
    Floor,
    /// Toward positive infinity.
    Ceil,
    /// Toward zero.
    Trunc,
    /// To the nearest, ties to even.
    Nearest,
}

/// A width of floating-point numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FloatWidth {
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
}

/// A return address from which a raise may be unwound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The offset of the return address in the code; of a call with a window, the end of the window.
    pub return_offset: u32,
    /// Where in the source the call or check stands.
    pub position: SourcePos,
    /// What [`Helper::RaiseSite`] raises from here.
    pub raises: Option<(RaiseKind, u16)>,
    /// `rbp - frame_offset` is the stack pointer that a landing of this site expects.
    pub frame_offset: u32,
    /// This site's handlers: `handlers[first .. first + count]` of the artifact, in the order in which they are tried.
    pub handlers_first: u32,
    /// How many handlers.
    pub handlers_count: u16,
    /// Where the frame has references while it waits here, if objects may move meanwhile.
    pub references: Option<ReferenceMap>,
    /// The frame state of the operation, as an index of the artifact's, if it has one.
    pub frame: Option<u32>,
}

/// The references of a frame while it waits at a site: `references[first .. first + count]` of the artifact. They are all that the
/// frame uses of references when it goes on; it reads them again, so whoever moves an object changes them there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReferenceMap {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// How an interpreter's frame stands while code waits at a site: its locals, its stack and its monitors, in this order, are
/// `locations[first ..]` of the artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameState {
    /// Whose frame.
    pub method: MethodId,
    /// Where in its source it stands.
    pub position: SourcePos,
    /// Before the operation there, after it, or in the raise of an exception.
    pub mode: FrameMode,
    /// Where its values' locations start.
    pub first: u32,
    /// How many of them are locals.
    pub locals: u16,
    /// How many are on the stack.
    pub stack: u16,
    /// How many are monitors.
    pub monitors: u16,
    /// The frame of its caller, if this method was inlined, as an index of the artifact's.
    pub parent: Option<u32>,
}

/// An object that was optimized away, as it is at one site: `locations[first .. first + count]` of the artifact are the values of its
/// fields, in the order of [`Module::fields`](dagwood_il::Module::fields), or of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualObject {
    /// Its number among the objects of its frame state and that one's parents.
    pub id: u32,
    /// What it is.
    pub kind: ObjectKind,
    /// Where the locations of what it holds start.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

/// Where a value of a frame state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// Nowhere, since nobody will read it.
    Dead,
    /// It is a constant of at most 64 bits.
    Constant(Type, u64),
    /// A reference that the frame keeps while it waits, at this distance below its frame pointer.
    Reference(u32),
    /// An object that was optimized away, as an index of the artifact's.
    Virtual(u32),
    /// In a register, or wherever the register allocator put it. Code that is left through a frame state stores such values
    /// before; a frame that waits in a call does not tell them.
    Unknown,
}

/// A handler in compiled code. It is entered with the exception object in `rax` and
/// the raise code (kind in the low 8 bits, reason above) in `rdx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landing {
    /// The kinds that it catches.
    pub kinds: KindSet,
    /// For guest exceptions, the class that it catches; any if `None`.
    pub class: Option<ClassId>,
    /// Where it starts, as an offset in the code.
    pub offset: u32,
}

/// Which root a stretch of code belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListingLine {
    /// Where the stretch begins.
    pub offset: u32,
    /// The node, as its index in the method.
    pub node: u32,
}
