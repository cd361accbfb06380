//! Conversions between types.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use dagwood_il::{Node, Opcode, Type};

use super::arith::Extend;
use super::{Lower, clif_type};

impl Lower<'_, '_, '_> {
    pub(super) fn convert(&mut self, node: Node) -> Value {
        let (from, to) = (self.operand_type(node, 0), self.method.ty(node));
        let clif = clif_type(to);
        let x = self.operand(node, 0);
        match self.method.opcode(node) {
            Opcode::Wrap => self.reduce(x, from, to),
            Opcode::SExt => self.extend(x, from, to, Extend::Signed),
            Opcode::UExt => self.extend(x, from, to, Extend::Unsigned),
            Opcode::SIntToFloat => {
                let wide = if from == Type::I64 { Type::I64 } else { Type::I32 };
                let x = self.extend(x, from, wide, Extend::Signed);
                self.ins().fcvt_from_sint(clif, x)
            }
            Opcode::UIntToFloat => match from {
                Type::I64 if self.is_non_negative(self.method.operands(node)[0]) => {
                    self.ins().fcvt_from_sint(clif, x)
                }
                Type::I64 => self.ins().fcvt_from_uint(clif, x),
                _ => {
                    // As a signed number of more bits, any narrower one is not negative.
                    let x = self.extend(x, from, Type::I64, Extend::Unsigned);
                    self.ins().fcvt_from_sint(clif, x)
                }
            },
            Opcode::FloatToSInt => self.float_to_int(x, to, Extend::Signed),
            Opcode::FloatToUInt => self.float_to_int(x, to, Extend::Unsigned),
            Opcode::FPromote => self.ins().fpromote(clif, x),
            Opcode::FDemote => self.ins().fdemote(clif, x),
            Opcode::Bitcast if clif_type(from) == clif => x,
            Opcode::Bitcast => self.ins().bitcast(clif, MemFlagsData::new(), x),
            Opcode::AddrAdd => {
                let distance = self.operand(node, 1);
                self.ins().iadd(x, distance)
            }
            _ => unreachable!("the dispatch sends no other opcodes here"),
        }
    }

    /// Whether an integer's highest bit is zero by what it is.
    fn is_non_negative(&self, node: Node) -> bool {
        let bits = self.method.ty(node).bits();
        match self.method.opcode(node) {
            Opcode::UExt => true,
            Opcode::UShr => self.const_operand(node, 1).is_some_and(|by| by % u64::from(bits) != 0),
            Opcode::And => self.const_operand(node, 1).is_some_and(|mask| mask >> (bits - 1) == 0),
            _ => false,
        }
    }

    /// Converts toward zero and saturates. To 8 and 16 bits by way of 32.
    pub(super) fn float_to_int(&mut self, x: Value, to: Type, extend: Extend) -> Value {
        let clif = clif_type(to);
        match (to, extend) {
            (Type::I32 | Type::I64, Extend::Signed) => self.ins().fcvt_to_sint_sat(clif, x),
            (Type::I32 | Type::I64, Extend::Unsigned) => self.ins().fcvt_to_uint_sat(clif, x),
            _ => {
                let wide = self.ins().fcvt_to_sint_sat(types::I32, x);
                let (low, high) = match extend {
                    Extend::Signed => (-1i64 << (to.bits() - 1), to.mask() >> 1),
                    Extend::Unsigned => (0, to.mask()),
                };
                let (low, high) = (self.iconst(types::I32, low as u64), self.iconst(types::I32, high));
                let raised = self.ins().smax(wide, low);
                let clamped = self.ins().smin(raised, high);
                self.ins().ireduce(clif, clamped)
            }
        }
    }
}
