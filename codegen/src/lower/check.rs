//! Checks, and arithmetic that checks itself.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::immediates::{Ieee32, Ieee64};
use cranelift_codegen::ir::{InstBuilder, TrapCode, Value, types};
use dagwood_il::{Block, Node, Opcode, Payload, RaiseKind, Type};

use super::arith::Extend;
use super::{Lower, Result, clif_type};

/// Which value of a condition raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Zero.
    Zero,
    /// Anything but zero.
    NonZero,
}

/// The trap behind which `traps.rs` finds a raise of this kind.
pub(crate) fn trap_of(kind: RaiseKind) -> TrapCode {
    TrapCode::user(kind as u8 + 1).expect("Cranelift leaves us more codes than there are kinds")
}

/// What a trap raises.
pub(crate) fn kind_of(trap: TrapCode) -> Option<RaiseKind> {
    match trap {
        TrapCode::STACK_OVERFLOW => Some(RaiseKind::StackOverflow),
        TrapCode::INTEGER_DIVISION_BY_ZERO => Some(RaiseKind::Division),
        trap => RaiseKind::from_number(trap.as_raw().get() - 1),
    }
}

/// The trap of a poll that is asked to stop.
pub(crate) const POLLED: TrapCode = TrapCode::unwrap_user(99);
/// The trap behind calls that do not return.
pub(crate) const UNREACHABLE: TrapCode = TrapCode::unwrap_user(100);

impl Lower<'_, '_, '_> {
    /// The handler of this block that gets what is raised here, if it is not a guest exception.
    fn handler_of(&self, kind: RaiseKind) -> Option<Block> {
        let handlers = self.method.handlers(self.block);
        if matches!(kind, RaiseKind::Guest | RaiseKind::Fault) {
            return None;
        }
        handlers.iter().find(|handler| handler.kinds.contains(kind)).map(|handler| handler.block)
    }

    /// The reason that a root raises with.
    fn reason(&self, node: Node) -> u16 {
        match self.method.payload(node) {
            Payload::Raise(_, reason) => reason,
            _ => 0,
        }
    }

    /// Raises `kind` if the condition, a flag or an integer, is what `when` says.
    pub(super) fn raise_if(
        &mut self,
        node: Node,
        condition: Value,
        when: When,
        kind: RaiseKind,
    ) -> Result<()> {
        let Some(handler) = self.handler_of(kind) else {
            match when {
                When::Zero => self.ins().trapz(condition, trap_of(kind)),
                When::NonZero => self.ins().trapnz(condition, trap_of(kind)),
            };
            return Ok(());
        };
        let (cold, next) = (self.new_block(), self.new_block());
        match when {
            When::Zero => self.ins().brif(condition, next, &[], cold, &[]),
            When::NonZero => self.ins().brif(condition, cold, &[], next, &[]),
        };
        let region = self.begin_cold(cold);
        self.raise_into(handler, kind.code(self.reason(node)))?;
        self.continue_in(next);
        self.region = region;
        Ok(())
    }

    /// Ends the current block of Cranelift's by raising a kind other than a guest exception into a handler.
    fn raise_into(&mut self, handler: Block, code: u32) -> Result<()> {
        let object = self.iconst(types::I64, 0);
        let code = self.iconst(types::I64, code.into());
        self.jump_to(handler, &[object.into(), code.into()])
    }

    /// Ends the current block of Cranelift's by raising what `node` says.
    pub(super) fn raise(&mut self, node: Node) -> Result<()> {
        let Payload::Raise(kind, reason) = self.method.payload(node) else {
            return Err(self.input(&format!("{node} does not say what it raises")));
        };
        match self.handler_of(kind) {
            Some(handler) => self.raise_into(handler, kind.code(reason)),
            None => {
                self.call_raise_site();
                Ok(())
            }
        }
    }

    /// Lowers a check. It yields its operand where it proves something of it.
    pub(super) fn check(&mut self, node: Node) -> Result<Option<Value>> {
        let opcode = self.method.opcode(node);
        if opcode == Opcode::Check {
            let Payload::Raise(kind, _) = self.method.payload(node) else {
                return Err(self.input(&format!("{node} does not say what it raises")));
            };
            let condition = self.condition(self.method.operands(node)[0]);
            self.raise_if(node, condition, When::Zero, kind)?;
            return Ok(None);
        }
        let x = self.operand(node, 0);
        match opcode {
            Opcode::NullCheck => self.raise_if(node, x, When::Zero, RaiseKind::Null)?,
            Opcode::DivCheck => self.raise_if(node, x, When::Zero, RaiseKind::Division)?,
            Opcode::SizeCheck => {
                let zero = self.iconst(clif_type(self.method.ty(node)), 0);
                let is_negative = self.ins().icmp(IntCC::SignedLessThan, x, zero);
                self.raise_if(node, is_negative, When::NonZero, RaiseKind::NegativeSize)?;
            }
            _ => {
                let length = self.operand(node, 1);
                let is_outside = self.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, x, length);
                self.raise_if(node, is_outside, When::NonZero, RaiseKind::Bounds)?;
            }
        }
        Ok(Some(x))
    }

    pub(super) fn checked_arithmetic(&mut self, node: Node) -> Result<Value> {
        let (x, y) = self.operands(node);
        let (result, overflows) = match self.method.opcode(node) {
            Opcode::SAddChecked => self.ins().sadd_overflow(x, y),
            Opcode::SSubChecked => self.ins().ssub_overflow(x, y),
            Opcode::UAddChecked => {
                let sum = self.ins().iadd(x, y);
                let is_less = self.ins().icmp(IntCC::UnsignedLessThan, sum, x);
                (sum, is_less)
            }
            Opcode::USubChecked => {
                let difference = self.ins().isub(x, y);
                let is_less = self.ins().icmp(IntCC::UnsignedLessThan, x, y);
                (difference, is_less)
            }
            Opcode::SMulChecked => self.ins().smul_overflow(x, y),
            _ => self.ins().umul_overflow(x, y),
        };
        self.raise_if(node, overflows, When::NonZero, RaiseKind::Overflow)?;
        Ok(result)
    }

    /// Compares with the first numbers beyond the range on both sides, which are exact as floats wherever they matter.
    pub(super) fn checked_conversion(&mut self, node: Node) -> Result<Value> {
        let (from, to) = (self.operand_type(node, 0), self.method.ty(node));
        let is_signed = self.method.opcode(node) == Opcode::FloatToSIntChecked;
        let x = self.operand(node, 0);
        let is_nan = self.ins().fcmp(FloatCC::Unordered, x, x);
        self.raise_if(node, is_nan, When::NonZero, RaiseKind::Conversion)?;

        let extend = if is_signed { Extend::Signed } else { Extend::Unsigned };
        let bits = if is_signed { to.bits() - 1 } else { to.bits() };
        let limit = self.power_of_two(from, bits);
        let is_large = self.ins().fcmp(FloatCC::GreaterThanOrEqual, x, limit);
        self.raise_if(node, is_large, When::NonZero, RaiseKind::Overflow)?;
        let (floor, code) = self.lower_limit(from, to, is_signed);
        let is_small = self.ins().fcmp(code, x, floor);
        self.raise_if(node, is_small, When::NonZero, RaiseKind::Overflow)?;
        Ok(self.float_to_int(x, to, extend))
    }

    fn float_constant(&mut self, ty: Type, value: f64) -> Value {
        match ty {
            Type::F32 => self.ins().f32const(Ieee32::with_float(value as f32)),
            _ => self.ins().f64const(Ieee64::with_float(value)),
        }
    }

    fn power_of_two(&mut self, ty: Type, exponent: u32) -> Value {
        self.float_constant(ty, f64::from(exponent).exp2())
    }

    /// A float, and the comparison with it that finds what is too small for the integer type.
    fn lower_limit(&mut self, from: Type, to: Type, is_signed: bool) -> (Value, FloatCC) {
        if !is_signed {
            return (self.float_constant(from, -1.0), FloatCC::LessThanOrEqual);
        }
        let smallest = -f64::from(to.bits() - 1).exp2();
        let precision = if from == Type::F32 { f32::MANTISSA_DIGITS } else { f64::MANTISSA_DIGITS };
        // What is less than one below the smallest integer is still rounded to it, if there are such floats.
        match to.bits() - 1 < precision {
            true => (self.float_constant(from, smallest - 1.0), FloatCC::LessThanOrEqual),
            false => (self.float_constant(from, smallest), FloatCC::LessThan),
        }
    }
}
