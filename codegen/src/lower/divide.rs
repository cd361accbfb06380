//! Division and remainder.
//!
//! By a constant: no division at all, see `magic.rs`. By anything else: the machine's own, after what it would stop the
//! program for is out of the way. A divisor of zero raises where it is not proven not to be zero; the quotient of the
//! smallest integer by minus one is taken by negating instead. 8 and 16 bits are divided in 32.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use dagwood_il::{Node, Opcode, RaiseKind, Type};

use super::arith::Extend;
use super::check::When;
use super::{Lower, Result, clif_type};
use crate::magic::{self, Magnitude, Unsigned};

impl Lower<'_, '_, '_> {
    pub(super) fn division(&mut self, node: Node) -> Result<Value> {
        let opcode = self.method.opcode(node);
        let ty = self.method.ty(node);
        let wide = if ty == Type::I64 { Type::I64 } else { Type::I32 };
        let is_signed = matches!(opcode, Opcode::SDiv | Opcode::SRem | Opcode::SDivChecked);
        let is_remainder = matches!(opcode, Opcode::SRem | Opcode::URem);
        let extend = if is_signed { Extend::Signed } else { Extend::Unsigned };
        let x = self.operand(node, 0);
        let x = self.extend(x, ty, wide, extend);
        let result = match self.const_operand(node, 1) {
            Some(divisor) if divisor != 0 && is_signed => {
                let divisor = (divisor << (64 - ty.bits())) as i64 >> (64 - ty.bits());
                self.divide_signed_by(x, wide, divisor, is_remainder)
            }
            Some(divisor) if divisor != 0 => self.divide_unsigned_by(x, wide, divisor, is_remainder),
            _ => {
                let y = self.operand(node, 1);
                if self.method.is_root(node) {
                    self.raise_if(node, y, When::Zero, RaiseKind::Division)?;
                }
                let y = self.extend(y, ty, wide, extend);
                match opcode {
                    Opcode::UDiv => self.ins().udiv(x, y),
                    Opcode::URem => self.ins().urem(x, y),
                    Opcode::SRem => self.ins().srem(x, y),
                    // Narrower quotients fit in 32 bits, whatever they are.
                    _ if ty != wide => self.ins().sdiv(x, y),
                    _ => self.divide_wrapping(x, y, wide),
                }
            }
        };
        Ok(self.reduce(result, wide, ty))
    }

    /// A signed quotient by a divisor that may be minus one but not zero.
    fn divide_wrapping(&mut self, x: Value, y: Value, ty: Type) -> Value {
        let ty = clif_type(ty);
        let minus_one = self.iconst(ty, u64::MAX);
        let is_minus_one = self.ins().icmp(IntCC::Equal, y, minus_one);
        let one = self.iconst(ty, 1);
        let divisor = self.ins().select(is_minus_one, one, y);
        let quotient = self.ins().sdiv(x, divisor);
        let negated = self.ins().ineg(x);
        self.ins().select(is_minus_one, negated, quotient)
    }

    pub(super) fn checked_division(&mut self, node: Node) -> Result<Value> {
        let ty = self.method.ty(node);
        let smallest = 1 << (ty.bits() - 1);
        let (dividend, divisor) = (self.const_operand(node, 0), self.const_operand(node, 1));
        if divisor.is_some_and(|divisor| divisor != 0 && divisor != ty.mask()) {
            return self.division(node);
        }
        let clif = clif_type(ty);
        let (x, y) = self.operands(node);
        if divisor.is_none() {
            self.raise_if(node, y, When::Zero, RaiseKind::Division)?;
        } else if divisor == Some(0) {
            let zero = self.iconst(types::I32, 0);
            self.raise_if(node, zero, When::Zero, RaiseKind::Division)?;
        }
        if dividend.is_none_or(|dividend| dividend == smallest) {
            // Zero for the one pair whose quotient does not fit.
            let smallest = self.iconst(clif, smallest);
            let x_differs = self.ins().bxor(x, smallest);
            let y_differs = self.ins().bnot(y);
            let either = self.ins().bor(x_differs, y_differs);
            self.raise_if(node, either, When::Zero, RaiseKind::Overflow)?;
        }
        if divisor == Some(ty.mask()) {
            return Ok(self.ins().ineg(x));
        }
        let wide = if ty == Type::I64 { Type::I64 } else { Type::I32 };
        let (x, y) = (self.extend(x, ty, wide, Extend::Signed), self.extend(y, ty, wide, Extend::Signed));
        let quotient = self.ins().sdiv(x, y);
        Ok(self.reduce(quotient, wide, ty))
    }

    fn divide_unsigned_by(&mut self, x: Value, ty: Type, divisor: u64, is_remainder: bool) -> Value {
        if is_remainder && divisor.is_power_of_two() {
            let mask = self.iconst(clif_type(ty), divisor - 1);
            return self.ins().band(x, mask);
        }
        let quotient = match magic::unsigned(divisor, ty.bits()) {
            Unsigned::Shift(shift) => self.shift_right(x, shift, Extend::Unsigned),
            Unsigned::Multiply { before, magic, after } => {
                let x = self.shift_right(x, before, Extend::Unsigned);
                self.high_product(x, ty, magic, after, Extend::Unsigned)
            }
            Unsigned::MultiplyAdd { magic, after } => {
                let high = self.high_product(x, ty, magic, 0, Extend::Unsigned);
                let rest = self.ins().isub(x, high);
                let half = self.shift_right(rest, 1, Extend::Unsigned);
                let sum = self.ins().iadd(half, high);
                self.shift_right(sum, after, Extend::Unsigned)
            }
        };
        if is_remainder { self.remainder(x, quotient, ty, divisor) } else { quotient }
    }

    fn divide_signed_by(&mut self, x: Value, ty: Type, divisor: i64, is_remainder: bool) -> Value {
        let plan = magic::signed(divisor, ty.bits());
        let quotient = match plan.by {
            Magnitude::One if is_remainder => return self.iconst(clif_type(ty), 0),
            Magnitude::One => x,
            Magnitude::Shift(shift) => {
                let signs = self.shift_right(x, shift - 1, Extend::Signed);
                let bias = self.shift_right(signs, ty.bits() - shift, Extend::Unsigned);
                let biased = self.ins().iadd(x, bias);
                if is_remainder {
                    let mask = self.iconst(clif_type(ty), u64::MAX << shift);
                    let multiple = self.ins().band(biased, mask);
                    return self.ins().isub(x, multiple);
                }
                self.shift_right(biased, shift, Extend::Signed)
            }
            Magnitude::Multiply { magic, after } => {
                let high = self.high_product(x, ty, magic, after, Extend::Signed);
                let is_negative = self.shift_right(x, ty.bits() - 1, Extend::Unsigned);
                self.ins().iadd(high, is_negative)
            }
        };
        match is_remainder {
            // The sign of the divisor does not matter to the remainder.
            true => self.remainder(x, quotient, ty, divisor.unsigned_abs()),
            false if plan.is_negative => self.ins().ineg(quotient),
            false => quotient,
        }
    }

    fn remainder(&mut self, x: Value, quotient: Value, ty: Type, divisor: u64) -> Value {
        let multiple = self.multiply_by(quotient, ty, divisor & ty.mask());
        self.ins().isub(x, multiple)
    }

    /// The upper half of the product of `x` with an unsigned constant, shifted right by `after`.
    fn high_product(&mut self, x: Value, ty: Type, magic: u64, after: u32, extend: Extend) -> Value {
        let factor = self.iconst(types::I64, magic);
        if ty == Type::I32 {
            let wide = self.extend(x, Type::I32, Type::I64, extend);
            let product = self.ins().imul(wide, factor);
            let high = self.shift_right(product, 32 + after, extend);
            return self.reduce(high, Type::I64, Type::I32);
        }
        let high = match extend {
            Extend::Unsigned => self.ins().umulhi(x, factor),
            Extend::Signed => {
                // The machine takes a factor of 2^63 and more for negative: 2^64 less, so `x` less in the upper half.
                let high = self.ins().smulhi(x, factor);
                if magic >> 63 == 1 { self.ins().iadd(high, x) } else { high }
            }
        };
        self.shift_right(high, after, extend)
    }
}
