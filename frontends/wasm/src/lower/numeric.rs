//! Constants, arithmetic, comparisons and conversions: one table from operators to opcodes.

use dagwood_il as il;
use il::{Node, Opcode, Type};
use wasmparser::Operator;

use super::Lower;

/// How an operator becomes nodes.
enum Rule {
    /// A constant.
    Constant(Type, u64),
    /// One operand, and a result of its type.
    Unary(Opcode),
    /// Two operands.
    Binary(Opcode),
    /// One operand, and a result of another type.
    Convert(Opcode, Type),
    /// As `Convert`, raising where there is no result.
    Checked(Opcode, Type),
    /// The low bits, with their sign, as the operand's own type.
    SignExtend(Type),
    /// A division that only a zero divisor makes raise.
    Divide(Opcode),
    /// The signed quotient, which may also overflow.
    DivideSigned,
    /// One if the operand is zero.
    IsZero,
}

#[rustfmt::skip]
fn rule(operator: &Operator<'_>) -> Option<Rule> {
    use Operator::*;
    use Rule::*;
    use Type::{F32, F64, I8, I16, I32, I64};
    Some(match operator {
        I32Const { value } => Constant(I32, *value as u32 as u64),
        I64Const { value } => Constant(I64, *value as u64),
        F32Const { value } => Constant(F32, value.bits() as u64),
        F64Const { value } => Constant(F64, value.bits()),

        I32Eqz | I64Eqz => IsZero,
        I32Eq | I64Eq => Binary(Opcode::Eq),
        I32Ne | I64Ne => Binary(Opcode::Ne),
        I32LtS | I64LtS => Binary(Opcode::SLt),
        I32LtU | I64LtU => Binary(Opcode::ULt),
        I32GtS | I64GtS => Binary(Opcode::SGt),
        I32GtU | I64GtU => Binary(Opcode::UGt),
        I32LeS | I64LeS => Binary(Opcode::SLe),
        I32LeU | I64LeU => Binary(Opcode::ULe),
        I32GeS | I64GeS => Binary(Opcode::SGe),
        I32GeU | I64GeU => Binary(Opcode::UGe),
        F32Eq | F64Eq => Binary(Opcode::FEq),
        F32Ne | F64Ne => Binary(Opcode::FNe),
        F32Lt | F64Lt => Binary(Opcode::FLt),
        F32Gt | F64Gt => Binary(Opcode::FGt),
        F32Le | F64Le => Binary(Opcode::FLe),
        F32Ge | F64Ge => Binary(Opcode::FGe),

        I32Clz | I64Clz => Unary(Opcode::Clz),
        I32Ctz | I64Ctz => Unary(Opcode::Ctz),
        I32Popcnt | I64Popcnt => Unary(Opcode::Popcnt),
        I32Add | I64Add => Binary(Opcode::Add),
        I32Sub | I64Sub => Binary(Opcode::Sub),
        I32Mul | I64Mul => Binary(Opcode::Mul),
        I32DivS | I64DivS => DivideSigned,
        I32DivU | I64DivU => Divide(Opcode::UDiv),
        I32RemS | I64RemS => Divide(Opcode::SRem),
        I32RemU | I64RemU => Divide(Opcode::URem),
        I32And | I64And => Binary(Opcode::And),
        I32Or | I64Or => Binary(Opcode::Or),
        I32Xor | I64Xor => Binary(Opcode::Xor),
        I32Shl | I64Shl => Binary(Opcode::Shl),
        I32ShrS | I64ShrS => Binary(Opcode::SShr),
        I32ShrU | I64ShrU => Binary(Opcode::UShr),
        I32Rotl | I64Rotl => Binary(Opcode::RotL),
        I32Rotr | I64Rotr => Binary(Opcode::RotR),

        F32Abs | F64Abs => Unary(Opcode::FAbs),
        F32Neg | F64Neg => Unary(Opcode::FNeg),
        F32Ceil | F64Ceil => Unary(Opcode::FCeil),
        F32Floor | F64Floor => Unary(Opcode::FFloor),
        F32Trunc | F64Trunc => Unary(Opcode::FTrunc),
        F32Nearest | F64Nearest => Unary(Opcode::FNearest),
        F32Sqrt | F64Sqrt => Unary(Opcode::FSqrt),
        F32Add | F64Add => Binary(Opcode::FAdd),
        F32Sub | F64Sub => Binary(Opcode::FSub),
        F32Mul | F64Mul => Binary(Opcode::FMul),
        F32Div | F64Div => Binary(Opcode::FDiv),
        F32Min | F64Min => Binary(Opcode::FMin),
        F32Max | F64Max => Binary(Opcode::FMax),
        F32Copysign | F64Copysign => Binary(Opcode::FCopysign),

        I32WrapI64 => Convert(Opcode::Wrap, I32),
        I64ExtendI32S => Convert(Opcode::SExt, I64),
        I64ExtendI32U => Convert(Opcode::UExt, I64),
        I32Extend8S | I64Extend8S => SignExtend(I8),
        I32Extend16S | I64Extend16S => SignExtend(I16),
        I64Extend32S => SignExtend(I32),
        I32TruncF32S | I32TruncF64S => Checked(Opcode::FloatToSIntChecked, I32),
        I32TruncF32U | I32TruncF64U => Checked(Opcode::FloatToUIntChecked, I32),
        I64TruncF32S | I64TruncF64S => Checked(Opcode::FloatToSIntChecked, I64),
        I64TruncF32U | I64TruncF64U => Checked(Opcode::FloatToUIntChecked, I64),
        I32TruncSatF32S | I32TruncSatF64S => Convert(Opcode::FloatToSInt, I32),
        I32TruncSatF32U | I32TruncSatF64U => Convert(Opcode::FloatToUInt, I32),
        I64TruncSatF32S | I64TruncSatF64S => Convert(Opcode::FloatToSInt, I64),
        I64TruncSatF32U | I64TruncSatF64U => Convert(Opcode::FloatToUInt, I64),
        F32ConvertI32S | F32ConvertI64S => Convert(Opcode::SIntToFloat, F32),
        F32ConvertI32U | F32ConvertI64U => Convert(Opcode::UIntToFloat, F32),
        F64ConvertI32S | F64ConvertI64S => Convert(Opcode::SIntToFloat, F64),
        F64ConvertI32U | F64ConvertI64U => Convert(Opcode::UIntToFloat, F64),
        F32DemoteF64 => Convert(Opcode::FDemote, F32),
        F64PromoteF32 => Convert(Opcode::FPromote, F64),
        I32ReinterpretF32 => Convert(Opcode::Bitcast, I32),
        I64ReinterpretF64 => Convert(Opcode::Bitcast, I64),
        F32ReinterpretI32 => Convert(Opcode::Bitcast, F32),
        F64ReinterpretI64 => Convert(Opcode::Bitcast, F64),
        _ => return None,
    })
}

impl Lower<'_, '_> {
    /// Lowers the operator if it computes from values alone.
    pub(super) fn numeric(&mut self, operator: &Operator<'_>) -> bool {
        let Some(rule) = rule(operator) else { return false };
        let value = match rule {
            Rule::Constant(ty, bits) => self.b.constant(ty, bits),
            Rule::Unary(opcode) => {
                let operand = self.pop();
                self.b.op(opcode, &[operand])
            }
            Rule::Binary(opcode) => {
                let (left, right) = self.pop_two();
                self.b.op(opcode, &[left, right])
            }
            Rule::Convert(opcode, ty) => {
                let operand = self.pop();
                self.b.convert(opcode, ty, operand)
            }
            Rule::Checked(opcode, ty) => {
                let operand = self.pop();
                self.b.checked(opcode, ty, &[operand], 0)
            }
            Rule::SignExtend(narrow) => {
                let operand = self.pop();
                let ty = self.b.method().ty(operand);
                let low = self.b.convert(Opcode::Wrap, narrow, operand);
                self.b.convert(Opcode::SExt, ty, low)
            }
            Rule::Divide(opcode) => {
                let (left, right) = self.pop_two();
                let ty = self.b.method().ty(left);
                let divisor = self.nonzero(ty, right);
                self.b.op(opcode, &[left, divisor])
            }
            Rule::DivideSigned => {
                let (left, right) = self.pop_two();
                self.divide_signed(left, right)
            }
            Rule::IsZero => {
                let operand = self.pop();
                let ty = self.b.method().ty(operand);
                let zero = self.b.constant(ty, 0);
                self.b.op(Opcode::Eq, &[operand, zero])
            }
        };
        self.push(value);
        true
    }

    fn pop_two(&mut self) -> (Node, Node) {
        let right = self.pop();
        let left = self.pop();
        (left, right)
    }

    /// The divisor, proven not to be zero.
    fn nonzero(&mut self, ty: Type, divisor: Node) -> Node {
        match self.b.method().const_bits(divisor) {
            Some(bits) if bits != 0 => divisor,
            _ => self.b.checked(Opcode::DivCheck, ty, &[divisor], 0),
        }
    }

    /// The signed quotient. A constant divisor other than zero and minus one needs no check.
    fn divide_signed(&mut self, left: Node, right: Node) -> Node {
        let ty = self.b.method().ty(left);
        match self.b.method().const_bits(right) {
            Some(bits) if bits != 0 && bits != ty.mask() => self.b.op(Opcode::SDiv, &[left, right]),
            _ => self.b.checked(Opcode::SDivChecked, ty, &[left, right], 0),
        }
    }
}
