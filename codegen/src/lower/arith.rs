//! Integer arithmetic and bits.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use dagwood_il::{Node, Opcode, Type};

use super::{Lower, clif_type};

/// How a narrow operand is made wider.
#[derive(Clone, Copy)]
pub(super) enum Extend {
    /// With its sign.
    Signed,
    /// With zeros.
    Unsigned,
}

impl Lower<'_, '_, '_> {
    pub(super) fn integer(&mut self, node: Node) -> Value {
        let opcode = self.method.opcode(node);
        let ty = self.method.ty(node);
        if opcode == Opcode::Mul
            && let Some(factor) = self.const_operand(node, 1)
        {
            let x = self.operand(node, 0);
            return self.multiply_by(x, ty, factor);
        }
        match opcode {
            Opcode::SMulHigh => return self.multiply_high(node, ty, Extend::Signed),
            Opcode::UMulHigh => return self.multiply_high(node, ty, Extend::Unsigned),
            Opcode::Bswap if ty == Type::I8 => return self.operand(node, 0),
            Opcode::Neg
            | Opcode::Abs
            | Opcode::Not
            | Opcode::Clz
            | Opcode::Ctz
            | Opcode::Popcnt
            | Opcode::Bswap
            | Opcode::Bitrev => return self.integer_unary(node),
            _ => {}
        }
        let (x, y) = self.operands(node);
        match opcode {
            Opcode::Add => self.ins().iadd(x, y),
            Opcode::Sub => self.ins().isub(x, y),
            Opcode::Mul => self.ins().imul(x, y),
            Opcode::SMin => self.ins().smin(x, y),
            Opcode::SMax => self.ins().smax(x, y),
            Opcode::UMin => self.ins().umin(x, y),
            Opcode::UMax => self.ins().umax(x, y),
            Opcode::And => self.ins().band(x, y),
            Opcode::Or => self.ins().bor(x, y),
            Opcode::Xor => self.ins().bxor(x, y),
            Opcode::Shl => self.ins().ishl(x, y),
            Opcode::SShr => self.ins().sshr(x, y),
            Opcode::UShr => self.ins().ushr(x, y),
            Opcode::RotL => self.ins().rotl(x, y),
            Opcode::RotR => self.ins().rotr(x, y),
            _ => unreachable!("the dispatch sends no other opcodes here"),
        }
    }

    fn integer_unary(&mut self, node: Node) -> Value {
        let x = self.operand(node, 0);
        match self.method.opcode(node) {
            Opcode::Neg => self.ins().ineg(x),
            Opcode::Abs => self.ins().iabs(x),
            Opcode::Not => self.ins().bnot(x),
            Opcode::Clz => self.ins().clz(x),
            Opcode::Ctz => self.ins().ctz(x),
            Opcode::Popcnt => self.ins().popcnt(x),
            Opcode::Bswap => self.ins().bswap(x),
            Opcode::Bitrev => self.ins().bitrev(x),
            _ => unreachable!("the dispatch sends no other opcodes here"),
        }
    }

    /// The product of `x` and a constant: shifts and an addition where that is no slower.
    pub(super) fn multiply_by(&mut self, x: Value, ty: Type, factor: u64) -> Value {
        let clif = clif_type(ty);
        let negated = factor.wrapping_neg() & ty.mask();
        if factor == 0 {
            self.iconst(clif, 0)
        } else if factor.is_power_of_two() {
            self.shift_left(x, factor.trailing_zeros())
        } else if negated.is_power_of_two() {
            let shifted = self.shift_left(x, negated.trailing_zeros());
            self.ins().ineg(shifted)
        } else if matches!(factor, 3 | 5 | 9) {
            let shifted = self.shift_left(x, (factor - 1).trailing_zeros());
            self.ins().iadd(x, shifted)
        } else {
            let factor = self.iconst(clif, factor);
            self.ins().imul(x, factor)
        }
    }

    /// `x << distance`, for a constant distance below the width.
    pub(super) fn shift_left(&mut self, x: Value, distance: u32) -> Value {
        if distance == 0 {
            return x;
        }
        let distance = self.iconst(types::I8, distance.into());
        self.ins().ishl(x, distance)
    }

    /// `x >> distance`, for a constant distance below the width.
    pub(super) fn shift_right(&mut self, x: Value, distance: u32, extend: Extend) -> Value {
        if distance == 0 {
            return x;
        }
        let distance = self.iconst(types::I8, distance.into());
        match extend {
            Extend::Signed => self.ins().sshr(x, distance),
            Extend::Unsigned => self.ins().ushr(x, distance),
        }
    }

    /// Makes an integer wider, or leaves it as it is.
    pub(super) fn extend(&mut self, x: Value, from: Type, to: Type, extend: Extend) -> Value {
        match extend {
            _ if from == to => x,
            Extend::Signed => self.ins().sextend(clif_type(to), x),
            Extend::Unsigned => self.ins().uextend(clif_type(to), x),
        }
    }

    /// The low bits of an integer, or all of it.
    pub(super) fn reduce(&mut self, x: Value, from: Type, to: Type) -> Value {
        if from == to { x } else { self.ins().ireduce(clif_type(to), x) }
    }

    /// Below 64 bits, a product of twice the width and a shift; that takes one register less than the machine's own.
    fn multiply_high(&mut self, node: Node, ty: Type, extend: Extend) -> Value {
        let (x, y) = self.operands(node);
        if ty == Type::I64 {
            return match extend {
                Extend::Signed => self.ins().smulhi(x, y),
                Extend::Unsigned => self.ins().umulhi(x, y),
            };
        }
        let wide = if ty == Type::I32 { Type::I64 } else { Type::I32 };
        let (x, y) = (self.extend(x, ty, wide, extend), self.extend(y, ty, wide, extend));
        let product = self.ins().imul(x, y);
        let high = self.shift_right(product, ty.bits(), Extend::Unsigned);
        self.reduce(high, wide, ty)
    }
}
