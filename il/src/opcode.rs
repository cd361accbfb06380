//! The opcode table: one row says all there is to say about an operation.
//!
//! ```text
//!   opcode   text    payload   operands        result    properties               kinds raised
//!   Add      "add"   None      [OWN, OWN]   => Own(INT), COMMUTES | ASSOCIATES,   NONE;
//! ```
//!
//! Types are not in opcodes: `add.i64` is [`Opcode::Add`] on a node of type `i64`. Signedness is in the
//! opcode, never in the type. Adding an operation touches its row, its evaluation (a root's is in the interpreter), its
//! lowering and its test; nothing else lists opcodes.
//!
//! # Guarantees
//!
//! * A row without [`Properties::ROOT`] is total and pure: it cannot raise, and reads nothing that changes.
//! * The table makes sense before the program runs: a `const` assertion below checks it.

use crate::raise::KindSet;
use crate::types::Type;

/// A set of types that an operand or a result may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(u16);

impl Class {
    /// Integers.
    pub const INT: Class = Class::of(&[Type::I8, Type::I16, Type::I32, Type::I64]);
    /// Floating-point numbers.
    pub const FLOAT: Class = Class::of(&[Type::F32, Type::F64]);
    /// What can be compared bit by bit: integers, addresses, references.
    pub const EQ: Class = Class::of(&[Type::I8, Type::I16, Type::I32, Type::I64, Type::Addr, Type::Ref]);
    /// Integers and addresses, which have an order.
    pub const ORDERED: Class = Class::of(&[Type::I8, Type::I16, Type::I32, Type::I64, Type::Addr]);
    /// Addresses and references: what memory is reached through.
    pub const POINTER: Class = Class::of(&[Type::Addr, Type::Ref]);
    /// Every type of value.
    pub const ANY: Class = Class::of(&Type::VALUES);
    /// 32-bit integers: conditions.
    pub const I32: Class = Class::of(&[Type::I32]);
    /// 64-bit integers: indexes and byte counts.
    pub const I64: Class = Class::of(&[Type::I64]);
    /// Raw addresses.
    pub const ADDR: Class = Class::of(&[Type::Addr]);
    /// References.
    pub const REF: Class = Class::of(&[Type::Ref]);
    /// Nodes without a value: frame states, virtual objects.
    pub const VOID: Class = Class::of(&[Type::Void]);

    const fn of(types: &[Type]) -> Class {
        let mut bits = 0;
        let mut i = 0;
        while i < types.len() {
            bits |= 1 << types[i] as u16;
            i += 1;
        }
        Class(bits)
    }

    /// Whether `ty` is in the set.
    pub const fn contains(self, ty: Type) -> bool {
        self.0 & (1 << ty as u16) != 0
    }

    /// The set of one type.
    pub(crate) const fn one(ty: Type) -> Class {
        Class::of(&[ty])
    }

    /// What is in both sets.
    pub(crate) const fn and(self, other: Class) -> Class {
        Class(self.0 & other.0)
    }

    /// Whether no type is in the set.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The type, if the set has but one.
    pub(crate) fn single(self) -> Option<Type> {
        if self.0.count_ones() == 1 { self.types().next() } else { None }
    }

    /// The types in the set.
    pub fn types(self) -> impl Iterator<Item = Type> {
        std::iter::once(Type::Void).chain(Type::VALUES).filter(move |ty| self.contains(*ty))
    }
}

/// What a row asks of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The node's own type.
    Own,
    /// A type of the set.
    Of(Class),
    /// The type of the operand before.
    Like,
}

/// What a row says of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No value.
    Nothing,
    /// Always this type; the text form does not repeat it.
    Fixed(Type),
    /// The node's own type, one of the set; the text form says which.
    Own(Class),
    /// What the payload's signature says: the first result, or no value.
    Signature,
}

/// Which payload a node of the row carries; see [`Payload`](crate::Payload).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is that of the payload's variant, which is documented there")]
pub enum PayloadKind {
    None,
    Const,
    Local,
    Slot,
    Access,
    Symbol,
    Method,
    Native,
    Signature,
    Dispatch,
    Class,
    Element,
    Index,
    Raise,
    Goto,
    Branch,
    Switch,
    Frame,
    Virtual,
    Guard,
}

/// Properties of an operation, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties(u32);

/// Declares the properties, one bit each.
macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Properties {
            /// No property.
            pub const NONE: Properties = Properties(0);
            $($(#[$doc])* pub const $name: Properties = Properties(1 << $bit);)*
        }
    };
}

properties! {
    /// Happens where it stands in its block's list.
    ROOT = 0;
    /// A root that ends its block.
    TERMINATES = 1;
    /// Belongs to the head of its extended block and to no other place: `entry`, `caught`.
    HEAD = 2;
    /// A root unless its second operand is proven not to be zero.
    ROOT_UNLESS_PROVEN = 3;
    /// Yields its first operand, of which the check is then proven.
    PROVES = 4;
    /// The first two operands may change places.
    COMMUTES = 5;
    /// `(x op y) op z` is `x op (y op z)`.
    ASSOCIATES = 6;
    /// Reads the memory that its payload names.
    READS = 7;
    /// Writes the memory that its payload names.
    WRITES = 8;
    /// Runs code that its payload names; effects are those declared there.
    CALLS = 9;
    /// A thread may stop here.
    YIELDS = 10;
    /// Orders memory with other threads.
    SYNCHRONISES = 11;
    /// May take a frame state as its last operand.
    FRAME = 12;
    /// Any number of operands may follow those of the row.
    VARIADIC = 13;
    /// The last operand of the row (before a frame state) may be missing.
    OPTIONAL_LAST = 14;
    /// The result is wider than the operand.
    WIDENS = 15;
    /// The result is narrower than the operand.
    NARROWS = 16;
    /// The result is as wide as the operand.
    SAME_WIDTH = 17;
    /// Makes an object.
    ALLOCATES = 18;
    /// Leaves compiled code when an assumption fails.
    LEAVES = 19;
    /// May stand only among the operands of a frame state or a virtual object.
    FRAME_ONLY = 20;
    /// The result is one or zero.
    TRUTH = 21;
    /// What it yields and whether it raises follow from its operands and its payload's class alone, whenever it happens: of two
    /// in a row, the second does nothing new. What is pure needs no mention.
    FUNCTION = 22;
    /// Takes several cycles, so that a register is well spent on keeping its value.
    SLOW = 23;
    /// The result must not be used at or after the next yield point, nor may what is computed from it: see [`Dying`](crate::Dying).
    DIES_AT_YIELD = 24;
}

impl Properties {
    /// Both sets together.
    pub const fn union(self, other: Properties) -> Properties {
        Properties(self.0 | other.0)
    }

    /// Whether every property of `other` is in the set.
    #[inline]
    pub const fn has(self, other: Properties) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Properties {
    type Output = Properties;

    fn bitor(self, other: Properties) -> Properties {
        self.union(other)
    }
}

/// All there is to say about an opcode.
#[derive(Debug)]
pub struct Row {
    /// The opcode of the row.
    pub opcode: Opcode,
    /// The name in the text form.
    pub name: &'static str,
    /// Which payload a node carries.
    pub payload: PayloadKind,
    /// What the operands are.
    pub operands: &'static [Operand],
    /// What the result is.
    pub outcome: Outcome,
    /// Everything else.
    pub properties: Properties,
    /// What it may raise of itself; a call adds what its callee declares.
    pub raises: KindSet,
}

impl Row {
    /// Whether the row has all of `properties`.
    #[inline]
    pub const fn has(&self, properties: Properties) -> bool {
        self.properties.has(properties)
    }
}

macro_rules! opcodes {
    ($($(#[$doc:meta])* $opcode:ident $name:literal $payload:ident [$($operand:expr),*] => $outcome:expr, $($property:ident)|+, $kinds:expr;)*) => {
        /// An operation. Its meaning and all its properties stand in its [`Row`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Opcode {
            $($(#[$doc])* $opcode,)*
        }

        /// The rows, by opcode.
        pub const TABLE: &[Row] = &[$(Row {
            opcode: Opcode::$opcode,
            name: $name,
            payload: PayloadKind::$payload,
            operands: &[$($operand),*],
            outcome: $outcome,
            properties: Properties::NONE$(.union(Properties::$property))+,
            raises: $kinds,
        },)*];
    };
}

use Operand::{Like as LIKE, Own as OWN};
use Outcome::{Nothing, Own, Signature};

const INT: Class = Class::INT;
const FLOAT: Class = Class::FLOAT;
const ANY: Class = Class::ANY;
const CONDITION: Operand = Operand::Of(Class::I32);
const INT32: Outcome = Outcome::Fixed(Type::I32);
const POINTER: Operand = Operand::Of(Class::POINTER);
const ADDR: Operand = Operand::Of(Class::ADDR);
const REF: Operand = Operand::Of(Class::REF);
const INDEX: Operand = Operand::Of(Class::I64);
const INTS: Operand = Operand::Of(Class::INT);
const FLOATS: Operand = Operand::Of(Class::FLOAT);
const EQS: Operand = Operand::Of(Class::EQ);
const ORDERED: Operand = Operand::Of(Class::ORDERED);
const VALUE: Operand = Operand::Of(Class::ANY);
const NO_KINDS: KindSet = KindSet::NONE;
const NULL: KindSet = KindSet::NULL;
const BOUNDS: KindSet = KindSet::BOUNDS;
const DIVISION: KindSet = KindSet::DIVISION;
const OVERFLOW: KindSet = KindSet::OVERFLOW;
const ALLOCATION: KindSet = KindSet::OUT_OF_MEMORY.union(KindSet::NEGATIVE_SIZE);

#[rustfmt::skip]
opcodes! {
    // ---- constants and values that are simply there ----
    /// A constant, by its bits. A reference constant can only be null.
    Const "const" Const [] => Own(ANY), NONE, NO_KINDS;
    /// The value of a local at the head of the extended block, captured there.
    Entry "entry" Local [] => Own(ANY), HEAD, NO_KINDS;
    /// The VM context: the implicit first parameter of every method.
    Context "context" None [] => Outcome::Fixed(Type::Addr), NONE, NO_KINDS;
    /// In a handler, the exception object: a reference or address as the runtime made it, null for built-in kinds.
    Caught "caught" None [] => Own(Class::POINTER), HEAD, NO_KINDS;
    /// In a handler, what was raised: the kind in the low 8 bits, the reason above.
    CaughtKind "caught_kind" None [] => INT32, HEAD, NO_KINDS;
    /// A further result of a call: the one with this number, from 1; the call itself is result 0.
    Result "result" Index [VALUE] => Own(ANY), NONE, NO_KINDS;
    /// The address of a static, which does not change while the code lives.
    SymbolAddress "symbol_address" Symbol [] => Outcome::Fixed(Type::Addr), NONE, NO_KINDS;
    /// The address of a slot: a local that has one.
    SlotAddress "slot_address" Slot [] => Outcome::Fixed(Type::Addr), NONE, NO_KINDS;
    /// The address at which a method can be called; the same for as long as the method exists.
    MethodAddress "method_address" Method [] => Outcome::Fixed(Type::Addr), NONE, NO_KINDS;

    // ---- integer arithmetic; all of it wraps ----
    /// Sum.
    Add "add" None [OWN, OWN] => Own(INT), COMMUTES | ASSOCIATES, NO_KINDS;
    /// Difference.
    Sub "sub" None [OWN, OWN] => Own(INT), NONE, NO_KINDS;
    /// Product.
    Mul "mul" None [OWN, OWN] => Own(INT), COMMUTES | ASSOCIATES | SLOW, NO_KINDS;
    /// Upper half of the double-width signed product.
    SMulHigh "smulhigh" None [OWN, OWN] => Own(INT), COMMUTES | SLOW, NO_KINDS;
    /// Upper half of the double-width unsigned product.
    UMulHigh "umulhigh" None [OWN, OWN] => Own(INT), COMMUTES | SLOW, NO_KINDS;
    /// Signed quotient, rounded toward zero. The smallest integer by minus one is itself.
    SDiv "sdiv" None [OWN, OWN] => Own(INT), ROOT_UNLESS_PROVEN | FUNCTION | SLOW, DIVISION;
    /// Unsigned quotient.
    UDiv "udiv" None [OWN, OWN] => Own(INT), ROOT_UNLESS_PROVEN | FUNCTION | SLOW, DIVISION;
    /// Signed remainder, with the sign of the dividend. The smallest integer by minus one leaves zero.
    SRem "srem" None [OWN, OWN] => Own(INT), ROOT_UNLESS_PROVEN | FUNCTION | SLOW, DIVISION;
    /// Unsigned remainder.
    URem "urem" None [OWN, OWN] => Own(INT), ROOT_UNLESS_PROVEN | FUNCTION | SLOW, DIVISION;
    /// Negation.
    Neg "neg" None [OWN] => Own(INT), NONE, NO_KINDS;
    /// Absolute value; that of the smallest integer is itself.
    Abs "abs" None [OWN] => Own(INT), NONE, NO_KINDS;
    /// Smaller of two signed integers.
    SMin "smin" None [OWN, OWN] => Own(INT), COMMUTES | ASSOCIATES, NO_KINDS;
    /// Larger of two signed integers.
    SMax "smax" None [OWN, OWN] => Own(INT), COMMUTES | ASSOCIATES, NO_KINDS;
    /// Smaller of two unsigned integers.
    UMin "umin" None [OWN, OWN] => Own(INT), COMMUTES | ASSOCIATES, NO_KINDS;
    /// Larger of two unsigned integers.
    UMax "umax" None [OWN, OWN] => Own(INT), COMMUTES | ASSOCIATES, NO_KINDS;
    /// Bitwise and.
    And "and" None [OWN, OWN] => Own(INT), COMMUTES | ASSOCIATES, NO_KINDS;
    /// Bitwise or.
    Or "or" None [OWN, OWN] => Own(INT), COMMUTES | ASSOCIATES, NO_KINDS;
    /// Bitwise exclusive or.
    Xor "xor" None [OWN, OWN] => Own(INT), COMMUTES | ASSOCIATES, NO_KINDS;
    /// Bitwise complement.
    Not "not" None [OWN] => Own(INT), NONE, NO_KINDS;
    /// Shift left; the distance is taken modulo the width.
    Shl "shl" None [OWN, OWN] => Own(INT), NONE, NO_KINDS;
    /// Shift right with the sign; the distance is taken modulo the width.
    SShr "sshr" None [OWN, OWN] => Own(INT), NONE, NO_KINDS;
    /// Shift right with zeros; the distance is taken modulo the width.
    UShr "ushr" None [OWN, OWN] => Own(INT), NONE, NO_KINDS;
    /// Rotate left; the distance is taken modulo the width.
    RotL "rotl" None [OWN, OWN] => Own(INT), NONE, NO_KINDS;
    /// Rotate right; the distance is taken modulo the width.
    RotR "rotr" None [OWN, OWN] => Own(INT), NONE, NO_KINDS;
    /// Leading zero bits.
    Clz "clz" None [OWN] => Own(INT), NONE, NO_KINDS;
    /// Trailing zero bits.
    Ctz "ctz" None [OWN] => Own(INT), NONE, NO_KINDS;
    /// Set bits.
    Popcnt "popcnt" None [OWN] => Own(INT), NONE, NO_KINDS;
    /// Bytes in reverse order.
    Bswap "bswap" None [OWN] => Own(INT), NONE, NO_KINDS;
    /// Bits in reverse order.
    Bitrev "bitrev" None [OWN] => Own(INT), NONE, NO_KINDS;

    // ---- comparisons; one if true, else zero ----
    /// Equal.
    Eq "eq" None [EQS, LIKE] => INT32, COMMUTES | TRUTH, NO_KINDS;
    /// Not equal.
    Ne "ne" None [EQS, LIKE] => INT32, COMMUTES | TRUTH, NO_KINDS;
    /// Signed less than.
    SLt "slt" None [INTS, LIKE] => INT32, TRUTH, NO_KINDS;
    /// Signed less than or equal.
    SLe "sle" None [INTS, LIKE] => INT32, TRUTH, NO_KINDS;
    /// Signed greater than.
    SGt "sgt" None [INTS, LIKE] => INT32, TRUTH, NO_KINDS;
    /// Signed greater than or equal.
    SGe "sge" None [INTS, LIKE] => INT32, TRUTH, NO_KINDS;
    /// Unsigned less than.
    ULt "ult" None [ORDERED, LIKE] => INT32, TRUTH, NO_KINDS;
    /// Unsigned less than or equal.
    ULe "ule" None [ORDERED, LIKE] => INT32, TRUTH, NO_KINDS;
    /// Unsigned greater than.
    UGt "ugt" None [ORDERED, LIKE] => INT32, TRUTH, NO_KINDS;
    /// Unsigned greater than or equal.
    UGe "uge" None [ORDERED, LIKE] => INT32, TRUTH, NO_KINDS;
    /// Floats: ordered and equal.
    FEq "feq" None [FLOATS, LIKE] => INT32, COMMUTES | TRUTH, NO_KINDS;
    /// Floats: unordered or different.
    FNe "fne" None [FLOATS, LIKE] => INT32, COMMUTES | TRUTH, NO_KINDS;
    /// Floats: ordered and less.
    FLt "flt" None [FLOATS, LIKE] => INT32, TRUTH, NO_KINDS;
    /// Floats: ordered and less or equal.
    FLe "fle" None [FLOATS, LIKE] => INT32, TRUTH, NO_KINDS;
    /// Floats: ordered and greater.
    FGt "fgt" None [FLOATS, LIKE] => INT32, TRUTH, NO_KINDS;
    /// Floats: ordered and greater or equal.
    FGe "fge" None [FLOATS, LIKE] => INT32, TRUTH, NO_KINDS;
    /// The second operand if the first is not zero, else the third.
    Select "select" None [CONDITION, OWN, OWN] => Own(ANY), NONE, NO_KINDS;

    // ---- floating point; IEEE 754, ties to even, no exceptions, NaN payloads unspecified ----
    /// Sum.
    FAdd "fadd" None [OWN, OWN] => Own(FLOAT), COMMUTES | SLOW, NO_KINDS;
    /// Difference.
    FSub "fsub" None [OWN, OWN] => Own(FLOAT), SLOW, NO_KINDS;
    /// Product.
    FMul "fmul" None [OWN, OWN] => Own(FLOAT), COMMUTES | SLOW, NO_KINDS;
    /// Quotient.
    FDiv "fdiv" None [OWN, OWN] => Own(FLOAT), SLOW, NO_KINDS;
    /// Remainder of the quotient rounded toward zero, exact, with the sign of the dividend.
    FRem "frem" None [OWN, OWN] => Own(FLOAT), SLOW, NO_KINDS;
    /// `x * y + z`, rounded once.
    Fma "fma" None [OWN, OWN, OWN] => Own(FLOAT), COMMUTES | SLOW, NO_KINDS;
    /// Sign inverted, NaNs included.
    FNeg "fneg" None [OWN] => Own(FLOAT), NONE, NO_KINDS;
    /// Sign cleared, NaNs included.
    FAbs "fabs" None [OWN] => Own(FLOAT), NONE, NO_KINDS;
    /// The first operand with the sign of the second.
    FCopysign "fcopysign" None [OWN, OWN] => Own(FLOAT), NONE, NO_KINDS;
    /// Smaller; a NaN if either is one; negative zero is below positive.
    FMin "fmin" None [OWN, OWN] => Own(FLOAT), COMMUTES | SLOW, NO_KINDS;
    /// Larger; a NaN if either is one; negative zero is below positive.
    FMax "fmax" None [OWN, OWN] => Own(FLOAT), COMMUTES | SLOW, NO_KINDS;
    /// Square root.
    FSqrt "fsqrt" None [OWN] => Own(FLOAT), SLOW, NO_KINDS;
    /// Rounded toward negative infinity.
    FFloor "ffloor" None [OWN] => Own(FLOAT), SLOW, NO_KINDS;
    /// Rounded toward positive infinity.
    FCeil "fceil" None [OWN] => Own(FLOAT), SLOW, NO_KINDS;
    /// Rounded toward zero.
    FTrunc "ftrunc" None [OWN] => Own(FLOAT), SLOW, NO_KINDS;
    /// Rounded to the nearest integer, ties to even.
    FNearest "fnearest" None [OWN] => Own(FLOAT), SLOW, NO_KINDS;
    /// Every NaN becomes the positive quiet NaN without payload; other values stay.
    FCanonicalise "fcanonicalise" None [OWN] => Own(FLOAT), SLOW, NO_KINDS;

    // ---- conversions ----
    /// The low bits of a wider integer.
    Wrap "wrap" None [INTS] => Own(INT), NARROWS, NO_KINDS;
    /// Sign extension.
    SExt "sext" None [INTS] => Own(INT), WIDENS, NO_KINDS;
    /// Zero extension.
    UExt "uext" None [INTS] => Own(INT), WIDENS, NO_KINDS;
    /// Signed integer to float, rounded.
    SIntToFloat "sint_to_float" None [INTS] => Own(FLOAT), SLOW, NO_KINDS;
    /// Unsigned integer to float, rounded.
    UIntToFloat "uint_to_float" None [INTS] => Own(FLOAT), SLOW, NO_KINDS;
    /// Float to signed integer, toward zero; saturates, and NaN gives zero.
    FloatToSInt "float_to_sint" None [FLOATS] => Own(INT), SLOW, NO_KINDS;
    /// Float to unsigned integer, toward zero; saturates, and NaN gives zero.
    FloatToUInt "float_to_uint" None [FLOATS] => Own(INT), SLOW, NO_KINDS;
    /// `f32` to `f64`, exact.
    FPromote "fpromote" None [FLOATS] => Own(FLOAT), WIDENS | SLOW, NO_KINDS;
    /// `f64` to `f32`, rounded.
    FDemote "fdemote" None [FLOATS] => Own(FLOAT), NARROWS | SLOW, NO_KINDS;
    /// The same bits as another type of the same width. Not between references and anything else.
    Bitcast "bitcast" None [VALUE] => Own(ANY), SAME_WIDTH, NO_KINDS;
    /// The address of what a reference points at. It and all that is computed from it die at the next yield point.
    RefAddress "ref_address" None [REF] => Outcome::Fixed(Type::Addr), ROOT | DIES_AT_YIELD, NO_KINDS;
    /// An address moved by a number of bytes.
    AddrAdd "addr_add" None [ADDR, INDEX] => Outcome::Fixed(Type::Addr), NONE, NO_KINDS;

    // ---- locals and memory ----
    /// Gives a local its value, as block exits and handlers see it.
    Set "set" Local [VALUE] => Nothing, ROOT, NO_KINDS;
    /// Reads memory at base + index × scale + offset.
    Load "load" Access [POINTER, INDEX] => Own(ANY), ROOT | READS | OPTIONAL_LAST, NO_KINDS;
    /// Writes the first operand to memory at base + index × scale + offset.
    Store "store" Access [VALUE, POINTER, INDEX] => Nothing, ROOT | WRITES | OPTIONAL_LAST, NO_KINDS;
    /// Copies bytes: destination, source, count. Overlapping areas are copied as if through a buffer.
    MemoryCopy "memory_copy" Symbol [ADDR, ADDR, INDEX] => Nothing, ROOT | READS | WRITES, NO_KINDS;
    /// Fills bytes: destination, byte (low 8 bits), count.
    MemoryFill "memory_fill" Symbol [ADDR, CONDITION, INDEX] => Nothing, ROOT | WRITES, NO_KINDS;
    /// Compares bytes as unsigned: left, right, count. Negative, zero or positive.
    MemoryCompare "memory_compare" Symbol [ADDR, ADDR, INDEX] => INT32, ROOT | READS, NO_KINDS;
    /// Orders all memory before it with all memory after it, for other threads to see.
    Fence "fence" None [] => Nothing, ROOT | SYNCHRONISES, NO_KINDS;

    // ---- checks: roots that raise when their condition fails, without ending the block ----
    /// Raises what the payload says if the condition is zero.
    Check "check" Raise [CONDITION] => Nothing, ROOT | FUNCTION | FRAME, NO_KINDS;
    /// Raises `null` if the operand is null; yields it.
    NullCheck "nullcheck" Raise [Operand::Own] => Own(Class::POINTER), ROOT | FUNCTION | PROVES | FRAME, NULL;
    /// Raises `bounds` unless index < length, both unsigned; yields the index.
    BoundsCheck "boundscheck" Raise [OWN, OWN] => Own(INT), ROOT | FUNCTION | PROVES | FRAME, BOUNDS;
    /// Raises `division` if the operand is zero; yields it.
    DivCheck "divcheck" Raise [OWN] => Own(INT), ROOT | FUNCTION | PROVES | FRAME, DIVISION;
    /// Raises `cast` unless the operand is null or of the class; yields it.
    CastCheck "castcheck" Class [REF] => Outcome::Fixed(Type::Ref), ROOT | FUNCTION | PROVES | FRAME, KindSet::CAST;
    /// Raises `store` unless the second operand may be stored in the array that is the first; yields the array.
    StoreCheck "storecheck" None [REF, REF] => Outcome::Fixed(Type::Ref), ROOT | FUNCTION | PROVES | FRAME, KindSet::STORE;
    /// Raises `negative_size` if the operand, a signed length, is negative; yields it.
    SizeCheck "sizecheck" Raise [OWN] => Own(INT), ROOT | FUNCTION | PROVES | FRAME, KindSet::NEGATIVE_SIZE;
    /// Sum; raises `overflow` if it does not fit, signed.
    SAddChecked "sadd_checked" Raise [OWN, OWN] => Own(INT), ROOT | FUNCTION | COMMUTES | FRAME, OVERFLOW;
    /// Difference; raises `overflow` if it does not fit, signed.
    SSubChecked "ssub_checked" Raise [OWN, OWN] => Own(INT), ROOT | FUNCTION | FRAME, OVERFLOW;
    /// Product; raises `overflow` if it does not fit, signed.
    SMulChecked "smul_checked" Raise [OWN, OWN] => Own(INT), ROOT | FUNCTION | COMMUTES | FRAME, OVERFLOW;
    /// Sum; raises `overflow` if it does not fit, unsigned.
    UAddChecked "uadd_checked" Raise [OWN, OWN] => Own(INT), ROOT | FUNCTION | COMMUTES | FRAME, OVERFLOW;
    /// Difference; raises `overflow` if it does not fit, unsigned.
    USubChecked "usub_checked" Raise [OWN, OWN] => Own(INT), ROOT | FUNCTION | FRAME, OVERFLOW;
    /// Product; raises `overflow` if it does not fit, unsigned.
    UMulChecked "umul_checked" Raise [OWN, OWN] => Own(INT), ROOT | FUNCTION | COMMUTES | FRAME, OVERFLOW;
    /// Signed quotient; raises `division` if the divisor is zero, `overflow` for the smallest integer by minus one.
    SDivChecked "sdiv_checked" Raise [OWN, OWN] => Own(INT), ROOT | FUNCTION | FRAME, DIVISION.union(OVERFLOW);
    /// Float to signed integer, toward zero; raises `conversion` for NaN, `overflow` if it does not fit.
    FloatToSIntChecked "float_to_sint_checked" Raise [FLOATS] => Own(INT), ROOT | FUNCTION | FRAME, KindSet::CONVERSION.union(OVERFLOW);
    /// Float to unsigned integer, toward zero; raises `conversion` for NaN, `overflow` if it does not fit.
    FloatToUIntChecked "float_to_uint_checked" Raise [FLOATS] => Own(INT), ROOT | FUNCTION | FRAME, KindSet::CONVERSION.union(OVERFLOW);

    // ---- objects ----
    /// A new object of a class, its fields zero.
    New "new" Class [] => Outcome::Fixed(Type::Ref), ROOT | ALLOCATES | YIELDS | FRAME, KindSet::OUT_OF_MEMORY;
    /// A new array of an element type with this many elements, zero.
    NewArray "newarray" Element [CONDITION] => Outcome::Fixed(Type::Ref), ROOT | ALLOCATES | YIELDS | FRAME, ALLOCATION;
    /// A new array of references to a class with this many elements, null.
    NewObjectArray "newobjectarray" Class [CONDITION] => Outcome::Fixed(Type::Ref), ROOT | ALLOCATES | YIELDS | FRAME, ALLOCATION;
    /// The number of elements of an array, which must not be null.
    ArrayLength "array_length" None [REF] => INT32, ROOT | FUNCTION, NO_KINDS;
    /// Whether the operand is an instance of the class; null is not.
    InstanceOf "instanceof" Class [REF] => INT32, ROOT | FUNCTION | TRUTH, NO_KINDS;
    /// The class of an object, which must not be null, as the address of its description.
    ClassOf "class_of" None [REF] => Outcome::Fixed(Type::Addr), ROOT | FUNCTION, NO_KINDS;
    /// The address of a class's description.
    ClassAddress "class_address" Class [] => Outcome::Fixed(Type::Addr), NONE, NO_KINDS;
    /// Enters the monitor of an object, which must not be null. A method leaves each monitor as often as it enters it; passes rely on that at
    /// calls.
    MonitorEnter "monitor_enter" None [REF] => Nothing, ROOT | YIELDS | SYNCHRONISES | FRAME, NO_KINDS;
    /// Leaves the monitor of an object; raises `monitor` if this thread does not own it.
    MonitorExit "monitor_exit" None [REF] => Nothing, ROOT | YIELDS | SYNCHRONISES | FRAME, KindSet::MONITOR;

    // ---- calls; the first result is the node, further ones are `result` nodes ----
    /// Calls a method with this method's context.
    Call "call" Method [] => Signature, ROOT | CALLS | YIELDS | FRAME | VARIADIC, NO_KINDS;
    /// Calls the method at an address with a context: address, context, arguments.
    CallIndirect "call_indirect" Signature [ADDR, ADDR] => Signature, ROOT | CALLS | YIELDS | FRAME | VARIADIC, NO_KINDS;
    /// Calls the method that the receiver's class has at a slot of its table: receiver, arguments.
    CallVirtual "call_virtual" Dispatch [REF] => Signature, ROOT | CALLS | YIELDS | FRAME | VARIADIC, NO_KINDS;
    /// Calls the method that the receiver's class has for a slot of an interface: receiver, arguments.
    CallInterface "call_interface" Dispatch [REF] => Signature, ROOT | CALLS | YIELDS | FRAME | VARIADIC, NO_KINDS;
    /// Calls a native function of the host with this method's context.
    CallNative "call_native" Native [] => Signature, ROOT | CALLS | YIELDS | FRAME | VARIADIC, NO_KINDS;

    // ---- yield points and guards ----
    /// A place where a thread may be asked to stop; raises `interrupt` if it is to end.
    Poll "poll" None [] => Nothing, ROOT | YIELDS | FRAME, KindSet::INTERRUPT;
    /// Leaves through its frame state when one of its assumptions fails; free while they hold.
    Guard "guard" Guard [] => Nothing, ROOT | FRAME | LEAVES, NO_KINDS;

    // ---- frame states; nodes, but not values ----
    /// How to rebuild an interpreter frame: locals, stack, monitors, then the parent frame if any.
    Frame "frame" Frame [] => Nothing, VARIADIC | FRAME_ONLY, NO_KINDS;
    /// In a frame state, a slot that nobody will read.
    Dead "dead" None [] => Nothing, FRAME_ONLY, NO_KINDS;
    /// In a frame state, an object that was optimized away: the values of its fields, by its id in the outermost frame.
    Virtual "virtual" Virtual [] => Nothing, VARIADIC | FRAME_ONLY, NO_KINDS;

    // ---- ends of blocks ----
    /// Continues at a block.
    Goto "goto" Goto [] => Nothing, ROOT | TERMINATES, NO_KINDS;
    /// Continues at the first block if the condition is not zero, else at the second.
    Branch "br" Branch [CONDITION] => Nothing, ROOT | TERMINATES, NO_KINDS;
    /// Continues at the block of the case that equals the operand, else at the default.
    Switch "switch" Switch [INTS] => Nothing, ROOT | TERMINATES, NO_KINDS;
    /// Continues at the first block while its assumptions hold, at the second once one has failed.
    GuardBranch "guard_br" Guard [] => Nothing, ROOT | TERMINATES | LEAVES, NO_KINDS;
    /// Returns the operands.
    Return "return" None [] => Nothing, ROOT | TERMINATES | VARIADIC, NO_KINDS;
    /// Calls a method in place of this one.
    TailCall "tail_call" Method [] => Nothing, ROOT | TERMINATES | CALLS | YIELDS | VARIADIC, NO_KINDS;
    /// Calls the method at an address with a context in place of this one: address, context, arguments.
    TailCallIndirect "tail_call_indirect" Signature [ADDR, ADDR] => Nothing, ROOT | TERMINATES | CALLS | YIELDS | VARIADIC, NO_KINDS;
    /// Throws an exception object of the guest.
    Throw "throw" None [POINTER] => Nothing, ROOT | TERMINATES | FRAME, KindSet::GUEST;
    /// Raises what the payload says.
    Raise "raise" Raise [] => Nothing, ROOT | TERMINATES | FRAME, NO_KINDS;
}

/// The table makes sense before the program runs.
const _: () = {
    let mut i = 0;
    while i < TABLE.len() {
        let row = &TABLE[i];
        assert!(row.opcode as usize == i, "rows stand in the order of their opcodes");
        assert!(!row.has(Properties::COMMUTES) || row.operands.len() >= 2, "what commutes has two operands");
        assert!(!row.has(Properties::TERMINATES) || row.has(Properties::ROOT), "what ends a block is a root");
        assert!(!row.has(Properties::LEAVES) || row.has(Properties::ROOT), "what leaves is a root");
        assert!(!row.has(Properties::YIELDS) || row.has(Properties::ROOT), "what yields is a root");
        assert!(!row.has(Properties::PROVES) || !row.operands.is_empty(), "what proves yields an operand");
        i += 1;
    }
};

impl Opcode {
    /// All opcodes, in the order of the table.
    pub fn all() -> impl ExactSizeIterator<Item = Opcode> {
        TABLE.iter().map(|row| row.opcode)
    }

    /// The opcode's row.
    #[inline]
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The opcode's name in the text form.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether the row has all of `properties`.
    #[inline]
    pub const fn has(self, properties: Properties) -> bool {
        self.row().has(properties)
    }

    /// What computes the same wherever this does not raise, and never raises by overflowing: for checked arithmetic that which wraps,
    /// for everything else itself.
    pub const fn unchecked(self) -> Opcode {
        match self {
            Opcode::SAddChecked | Opcode::UAddChecked => Opcode::Add,
            Opcode::SSubChecked | Opcode::USubChecked => Opcode::Sub,
            Opcode::SMulChecked | Opcode::UMulChecked => Opcode::Mul,
            Opcode::SDivChecked => Opcode::SDiv,
            other => other,
        }
    }
}

impl std::fmt::Display for Opcode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
