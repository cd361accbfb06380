//! Constant expressions: what globals start as, and where segments go.

use smallvec::SmallVec;
use wasmparser::Operator;

use crate::error::{Error, ErrorKind};

/// One operation of a constant expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstOp {
    /// A number, by its bits.
    Value(u64),
    /// The null reference.
    Null,
    /// A reference to a function.
    Function(u32),
    /// The value of a global.
    Global(u32),
    /// 32-bit sum.
    Add32,
    /// 32-bit difference.
    Sub32,
    /// 32-bit product.
    Mul32,
    /// 64-bit sum.
    Add64,
    /// 64-bit difference.
    Sub64,
    /// 64-bit product.
    Mul64,
}

/// A constant expression, in postfix order. It has passed validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstExpr {
    ops: SmallVec<[ConstOp; 1]>,
}

impl ConstExpr {
    /// Reads an expression that has been validated.
    pub(crate) fn read(expr: &wasmparser::ConstExpr<'_>) -> Result<ConstExpr, Error> {
        let mut ops = SmallVec::new();
        let mut reader = expr.get_operators_reader();
        while !reader.eof() {
            let offset = reader.original_position();
            ops.push(match reader.read()? {
                Operator::I32Const { value } => ConstOp::Value(u64::from(value as u32)),
                Operator::I64Const { value } => ConstOp::Value(value as u64),
                Operator::F32Const { value } => ConstOp::Value(u64::from(value.bits())),
                Operator::F64Const { value } => ConstOp::Value(value.bits()),
                Operator::RefNull { .. } => ConstOp::Null,
                Operator::RefFunc { function_index } => ConstOp::Function(function_index),
                Operator::GlobalGet { global_index } => ConstOp::Global(global_index),
                Operator::I32Add => ConstOp::Add32,
                Operator::I32Sub => ConstOp::Sub32,
                Operator::I32Mul => ConstOp::Mul32,
                Operator::I64Add => ConstOp::Add64,
                Operator::I64Sub => ConstOp::Sub64,
                Operator::I64Mul => ConstOp::Mul64,
                Operator::End => break,
                other => {
                    let message = format!("constant expression with {other:?}");
                    return Err(Error::at(ErrorKind::Unsupported, offset, message));
                }
            });
        }
        Ok(ConstExpr { ops })
    }

    /// The number that the expression is, if it is nothing but one.
    pub(crate) fn as_number(&self) -> Option<u64> {
        match self.ops[..] {
            [ConstOp::Value(bits)] => Some(bits),
            _ => None,
        }
    }

    /// The value, as bits; functions and globals are asked for.
    pub(crate) fn evaluate(&self, function: impl Fn(u32) -> u64, global: impl Fn(u32) -> u64) -> u64 {
        let mut stack: SmallVec<[u64; 4]> = SmallVec::new();
        for op in &self.ops {
            let value = match op {
                ConstOp::Value(bits) => *bits,
                ConstOp::Null => 0,
                ConstOp::Function(index) => function(*index),
                ConstOp::Global(index) => global(*index),
                _ => {
                    let right = stack.pop().unwrap_or_default();
                    let left = stack.pop().unwrap_or_default();
                    binary(*op, left, right)
                }
            };
            stack.push(value);
        }
        stack.pop().unwrap_or_default()
    }
}

fn binary(op: ConstOp, left: u64, right: u64) -> u64 {
    let narrow = |value: u32| u64::from(value);
    match op {
        ConstOp::Add32 => narrow((left as u32).wrapping_add(right as u32)),
        ConstOp::Sub32 => narrow((left as u32).wrapping_sub(right as u32)),
        ConstOp::Mul32 => narrow((left as u32).wrapping_mul(right as u32)),
        ConstOp::Add64 => left.wrapping_add(right),
        ConstOp::Sub64 => left.wrapping_sub(right),
        ConstOp::Mul64 => left.wrapping_mul(right),
        ConstOp::Value(_) | ConstOp::Null | ConstOp::Function(_) | ConstOp::Global(_) => {
            unreachable!("only sums, differences and products have two operands")
        }
    }
}
