//! Comparisons, which stay flags for as long as they can, and selection.

use cranelift_codegen::ir::condcodes::{CondCode, FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, InstructionData, Value, types};
use dagwood_il::{Node, Opcode, Properties, Type};

use super::Lower;

impl Lower<'_, '_, '_> {
    pub(super) fn compare_integers(&mut self, node: Node) -> Value {
        if let Some(flag) = self.compare_flag(node) {
            return flag;
        }
        let (x, y) = self.operands(node);
        let code = match self.method.opcode(node) {
            Opcode::Eq => IntCC::Equal,
            Opcode::Ne => IntCC::NotEqual,
            Opcode::SLt => IntCC::SignedLessThan,
            Opcode::SLe => IntCC::SignedLessThanOrEqual,
            Opcode::SGt => IntCC::SignedGreaterThan,
            Opcode::SGe => IntCC::SignedGreaterThanOrEqual,
            Opcode::ULt => IntCC::UnsignedLessThan,
            Opcode::ULe => IntCC::UnsignedLessThanOrEqual,
            Opcode::UGt => IntCC::UnsignedGreaterThan,
            Opcode::UGe => IntCC::UnsignedGreaterThanOrEqual,
            _ => unreachable!("the dispatch sends no other opcodes here"),
        };
        self.ins().icmp(code, x, y)
    }

    /// A comparison of a comparison's result with zero is that comparison, or its opposite.
    fn compare_flag(&mut self, node: Node) -> Option<Value> {
        let is_equal = match self.method.opcode(node) {
            Opcode::Eq => true,
            Opcode::Ne => false,
            _ => return None,
        };
        let inner = self.method.operands(node)[0];
        if self.const_operand(node, 1) != Some(0) || !self.method.opcode(inner).has(Properties::TRUTH) {
            return None;
        }
        let flag = self.condition(inner);
        if !is_equal {
            return Some(flag);
        }
        self.complement(flag)
    }

    /// The opposite of a flag that is a comparison.
    pub(super) fn complement(&mut self, flag: Value) -> Option<Value> {
        let dfg = &self.cursor.func.dfg;
        Some(match dfg.insts[dfg.value_def(flag).inst()?] {
            InstructionData::IntCompare { cond, args: [x, y], .. } => {
                self.ins().icmp(cond.complement(), x, y)
            }
            InstructionData::FloatCompare { cond, args: [x, y], .. } => {
                self.ins().fcmp(cond.complement(), x, y)
            }
            _ => return None,
        })
    }

    pub(super) fn compare_floats(&mut self, node: Node) -> Value {
        let (x, y) = self.operands(node);
        let code = match self.method.opcode(node) {
            Opcode::FEq => FloatCC::Equal,
            Opcode::FNe => FloatCC::NotEqual,
            Opcode::FLt => FloatCC::LessThan,
            Opcode::FLe => FloatCC::LessThanOrEqual,
            Opcode::FGt => FloatCC::GreaterThan,
            Opcode::FGe => FloatCC::GreaterThanOrEqual,
            _ => unreachable!("the dispatch sends no other opcodes here"),
        };
        self.ins().fcmp(code, x, y)
    }

    pub(super) fn select(&mut self, node: Node) -> Value {
        let condition = self.condition(self.method.operands(node)[0]);
        let (x, y) = (self.operand(node, 1), self.operand(node, 2));
        match self.method.ty(node) {
            // There is no conditional move narrower than a register's half.
            Type::I8 | Type::I16 => {
                let ty = self.cursor.func.dfg.value_type(x);
                let (x, y) = (self.ins().uextend(types::I32, x), self.ins().uextend(types::I32, y));
                let chosen = self.ins().select(condition, x, y);
                self.ins().ireduce(ty, chosen)
            }
            _ => self.ins().select(condition, x, y),
        }
    }
}
