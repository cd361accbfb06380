//! Floating-point arithmetic.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::immediates::{Ieee32, Ieee64};
use cranelift_codegen::ir::{ConstantData, InstBuilder, Value, types};
use dagwood_il::{Node, Opcode, Payload, Type};

use super::Lower;
use crate::artifact::{FloatWidth, Helper, Rounding};

impl Lower<'_, '_, '_> {
    /// A constant that is not computed again wherever it is used: of floats, or of 128 bits.
    pub(super) fn wide_constant(&mut self, node: Node) -> Value {
        match self.method.payload(node) {
            Payload::Wide(wide) => {
                let bits = self.method.wide(wide).to_le_bytes();
                let constant = self.cursor.func.dfg.constants.insert(ConstantData::from(&bits[..]));
                self.ins().vconst(types::I8X16, constant)
            }
            Payload::Const(bits) if self.method.ty(node) == Type::F32 => {
                self.ins().f32const(Ieee32::with_bits(bits as u32))
            }
            Payload::Const(bits) => self.ins().f64const(Ieee64::with_bits(bits)),
            _ => unreachable!("a constant's payload is its bits"),
        }
    }

    pub(super) fn float(&mut self, node: Node) -> Value {
        let opcode = self.method.opcode(node);
        let width = if self.method.ty(node) == Type::F32 { FloatWidth::F32 } else { FloatWidth::F64 };
        let x = self.operand(node, 0);
        let round = match opcode {
            Opcode::FFloor => Some(Rounding::Floor),
            Opcode::FCeil => Some(Rounding::Ceil),
            Opcode::FTrunc => Some(Rounding::Trunc),
            Opcode::FNearest => Some(Rounding::Nearest),
            _ => None,
        };
        if let Some(rounding) = round {
            return self.round(x, rounding, width);
        }
        match opcode {
            Opcode::FNeg => return self.ins().fneg(x),
            Opcode::FAbs => return self.ins().fabs(x),
            Opcode::FSqrt => return self.ins().sqrt(x),
            Opcode::FCanonicalise => return self.canonicalise(x, width),
            _ => {}
        }
        let y = self.operand(node, 1);
        match opcode {
            Opcode::FAdd => self.ins().fadd(x, y),
            Opcode::FSub => self.ins().fsub(x, y),
            Opcode::FMul => self.ins().fmul(x, y),
            Opcode::FDiv => self.ins().fdiv(x, y),
            Opcode::FMin => self.ins().fmin(x, y),
            Opcode::FMax => self.ins().fmax(x, y),
            Opcode::FCopysign => self.ins().fcopysign(x, y),
            Opcode::FRem => {
                let helper = if width == FloatWidth::F32 { Helper::FremF32 } else { Helper::FremF64 };
                self.call_pure_helper(helper, &[x, y])
            }
            Opcode::Fma => {
                let z = self.operand(node, 2);
                if self.target.has_fma {
                    return self.ins().fma(x, y, z);
                }
                let helper = if width == FloatWidth::F32 { Helper::FmaF32 } else { Helper::FmaF64 };
                self.call_pure_helper(helper, &[x, y, z])
            }
            _ => unreachable!("the dispatch sends no other opcodes here"),
        }
    }

    fn round(&mut self, x: Value, rounding: Rounding, width: FloatWidth) -> Value {
        if !self.target.has_rounding {
            return self.call_pure_helper(Helper::Round(rounding, width), &[x]);
        }
        match rounding {
            Rounding::Floor => self.ins().floor(x),
            Rounding::Ceil => self.ins().ceil(x),
            Rounding::Trunc => self.ins().trunc(x),
            Rounding::Nearest => self.ins().nearest(x),
        }
    }

    fn canonicalise(&mut self, x: Value, width: FloatWidth) -> Value {
        let is_nan = self.ins().fcmp(FloatCC::Unordered, x, x);
        let canonical = match width {
            FloatWidth::F32 => self.ins().f32const(Ieee32::with_bits(0x7fc0_0000)),
            FloatWidth::F64 => self.ins().f64const(Ieee64::with_bits(0x7ff8_0000_0000_0000)),
        };
        self.ins().select(is_nan, canonical, x)
    }
}
