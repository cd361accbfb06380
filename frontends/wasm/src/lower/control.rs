//! Control instructions: frames, labels, branches.

use std::collections::HashMap;

use super::facts::Mark;
use super::{Kept, Lower, Position, Types};
use crate::error::Error;
use crate::types::{FuncType, ValType};
use dagwood_il as il;
use il::{Block, HandlerList, Node, RaiseKind};
use smallvec::SmallVec;
use wasmparser::{BlockType, BrTable, Operator};

/// A control instruction that is open.
pub(super) struct Frame {
    kind: Kind,
    /// How many values are on the stack below it and its parameters.
    height: usize,
    /// What a branch to its label takes.
    label: Types,
    /// What its end leaves.
    results: Types,
    /// Where branches to its end go, once there is one.
    join: Option<Block>,
    /// The handlers in force around it.
    handlers: Option<HandlerList>,
    /// What is kept in locals around it.
    kept: Kept,
}

/// Which control instruction.
enum Kind {
    Function,
    /// A block, an `if` whose `else` was reached, or one whose condition is known to hold.
    Block,
    /// A loop, with its header.
    Loop(Block),
    /// An `if` whose `else` was not reached yet.
    If(Otherwise),
    /// An `if` whose condition is known not to hold, with its parameters.
    Skipped(Types),
}

/// The other arm of an `if`.
struct Otherwise {
    block: Block,
    /// Where it branches off.
    parent: Position,
    facts: Mark,
    params: Types,
}

impl Frame {
    /// The frame of a whole function.
    pub(super) fn function(ty: &FuncType) -> Frame {
        let results: Types = ty.results.iter().map(|ty| ty.lowered()).collect();
        let (kind, label, kept) = (Kind::Function, results.clone(), Kept::default());
        Frame { kind, height: 0, label, results, join: None, handlers: None, kept }
    }
}

/// The parameters and the results of a control instruction.
type Arity = (Types, Types);

impl Lower<'_, '_> {
    /// Lowers the operator if it is one of control, calls or exceptions.
    pub(super) fn control(&mut self, operator: &Operator<'_>) -> Result<bool, Error> {
        match operator {
            Operator::Block { blockty } => {
                let arity = self.arity(*blockty);
                self.open(Kind::Block, arity);
            }
            Operator::Loop { blockty } => self.begin_loop(*blockty),
            Operator::If { blockty } => self.begin_if(*blockty),
            Operator::Else => self.otherwise(),
            Operator::End => self.end(),
            Operator::Br { relative_depth } => self.br(*relative_depth),
            Operator::BrIf { relative_depth } => self.br_if(*relative_depth),
            Operator::BrTable { targets } => self.br_table(targets)?,
            Operator::Return => self.br(self.frames.len() as u32 - 1),
            Operator::Unreachable => {
                self.b.raise(RaiseKind::Unreachable, 0);
                self.is_reachable = false;
            }
            Operator::TryTable { try_table } => self.begin_try(try_table)?,
            Operator::Throw { tag_index } => self.throw(*tag_index),
            Operator::ThrowRef => self.throw_ref(),
            Operator::Call { function_index } => self.call(*function_index),
            Operator::CallIndirect { type_index, table_index } => {
                self.call_indirect(*type_index, *table_index)
            }
            Operator::ReturnCall { function_index } => self.return_call(*function_index),
            Operator::ReturnCallIndirect { type_index, table_index } => {
                self.return_call_indirect(*type_index, *table_index);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What a block type takes and leaves.
    pub(super) fn arity(&self, ty: BlockType) -> Arity {
        match ty {
            BlockType::Empty => (Types::new(), Types::new()),
            BlockType::Type(ty) => {
                (Types::new(), ValType::from_parser(ty).map(ValType::lowered).into_iter().collect())
            }
            BlockType::FuncType(index) => {
                let ty = &self.module.types[index as usize];
                let list = |types: &[ValType]| types.iter().map(|ty| ty.lowered()).collect();
                (list(&ty.params), list(&ty.results))
            }
        }
    }

    /// Opens a frame over the parameters on the stack. All that is on the stack comes home.
    fn open(&mut self, kind: Kind, (params, results): Arity) {
        self.settle();
        let height = self.stack.len() - params.len();
        let label = if matches!(kind, Kind::Loop(_)) { params } else { results.clone() };
        let (handlers, kept) = (self.handlers, self.kept);
        self.frames.push(Frame { kind, height, label, results, join: None, handlers, kept });
    }

    /// Opens the frame of a block inside which other handlers are in force. They are put in force by the caller.
    pub(super) fn open_try(&mut self, arity: Arity) {
        self.open(Kind::Block, arity);
    }

    fn begin_loop(&mut self, ty: BlockType) {
        let arity = self.arity(ty);
        self.settle();
        let outer = self.kept;
        self.begin_region();
        let header = self.new_block();
        self.b.goto(header);
        self.begin_head(header);
        self.open(Kind::Loop(header), arity);
        if let Some(frame) = self.frames.last_mut() {
            frame.kept = outer;
        }
        self.poll();
    }

    fn begin_if(&mut self, ty: BlockType) {
        self.make_room();
        let arity = self.arity(ty);
        let condition = self.pop();
        match self.known(condition) {
            None => {}
            Some(true) => return self.open(Kind::Block, arity),
            Some(false) => {
                let params = arity.0.clone();
                self.open(Kind::Skipped(params), arity);
                self.is_reachable = false;
                return;
            }
        }
        self.settle();
        let (then, otherwise) = (self.extension(), self.extension());
        self.b.branch(condition, then, otherwise);
        let parent = self.place;
        let other = Otherwise { block: otherwise, parent, facts: self.facts.mark(), params: arity.0.clone() };
        self.begin_extension(then, parent);
        self.open(Kind::If(other), arity);
    }

    /// `else`: leaves the first arm and begins the other.
    pub(super) fn otherwise(&mut self) {
        let index = self.frames.len() - 1;
        if self.is_reachable {
            self.leave(index);
        }
        self.begin_otherwise(index);
    }

    /// Begins the other arm of an `if`, if it can be reached, with the parameters on the stack.
    fn begin_otherwise(&mut self, index: usize) {
        let frame = &mut self.frames[index];
        let height = frame.height;
        match std::mem::replace(&mut frame.kind, Kind::Block) {
            Kind::If(other) => {
                self.begin_extension(other.block, other.parent);
                self.facts.back_to(other.facts);
                self.restack(height, &other.params);
            }
            Kind::Skipped(params) => {
                self.is_reachable = true;
                self.restack(height, &params);
            }
            Kind::Function | Kind::Block | Kind::Loop(_) => self.is_reachable = false,
        }
    }

    /// Which way a condition goes, if that is known.
    fn known(&self, condition: Node) -> Option<bool> {
        self.b.method().const_bits(condition).map(|bits| bits != 0)
    }

    /// Cuts the stack down to `height`, then pushes values that are at home.
    fn restack(&mut self, height: usize, types: &[il::Type]) {
        self.stack.truncate(height);
        self.settled = height;
        for ty in types {
            self.push_home(*ty);
        }
    }

    /// Ends the block: continues at the end of a frame, with its results on top of the stack.
    fn leave(&mut self, index: usize) {
        self.settle();
        let join = self.join(index);
        self.b.goto(join);
    }

    /// Where branches to the end of a frame go.
    fn join(&mut self, index: usize) -> Block {
        if let Some(join) = self.frames[index].join {
            return join;
        }
        let join = self.b.block();
        self.b.set_handlers(join, self.frames[index].handlers);
        self.frames[index].join = Some(join);
        join
    }

    /// `end`: closes the innermost frame. What follows is reached from here, from branches to it, or not at all.
    pub(super) fn end(&mut self) {
        let index = self.frames.len() - 1;
        if matches!(self.frames[index].kind, Kind::If(_) | Kind::Skipped(_)) {
            // An `if` without `else`: its parameters are its results.
            self.otherwise();
        }
        let has_join = self.frames[index].join.is_some();
        if self.is_reachable && has_join {
            self.leave(index);
        }
        let Some(frame) = self.frames.pop() else { return };
        self.kept = frame.kept;
        match frame.join {
            Some(join) => {
                self.handlers = frame.handlers;
                self.restack(frame.height, &frame.results);
                self.begin_head(join);
            }
            None if self.frames.is_empty() => self.end_function(frame.results.len()),
            None => self.leave_handlers(frame.handlers),
        }
    }

    fn end_function(&mut self, results: usize) {
        if self.is_reachable {
            let values = self.pop_many(results);
            self.b.ret(&values);
        }
    }

    /// Puts the handlers around a frame in force again where control falls out of it.
    fn leave_handlers(&mut self, handlers: Option<HandlerList>) {
        if self.handlers == handlers {
            return;
        }
        if self.is_reachable {
            self.make_room();
            self.continue_under(handlers);
        }
        self.handlers = handlers;
    }

    /// Continues in an extension that has other handlers. There must be room for it.
    pub(super) fn continue_under(&mut self, handlers: Option<HandlerList>) {
        let next = self.extension();
        self.b.set_handlers(next, handlers);
        self.b.goto(next);
        self.begin_extension(next, self.place);
        self.handlers = handlers;
    }

    // ---- branches ----

    /// The frame that a label names.
    fn target(&self, label: u32) -> usize {
        self.frames.len() - 1 - label as usize
    }

    /// How many values a branch to a label takes.
    fn label_arity(&self, label: u32) -> usize {
        self.frames[self.target(label)].label.len()
    }

    /// Ends the block: branches to a label with values.
    pub(super) fn transfer(&mut self, label: u32, values: &[Node]) {
        let index = self.target(label);
        let frame = &self.frames[index];
        let (height, types) = (frame.height, frame.label.clone());
        let block = match frame.kind {
            Kind::Function => return self.b.ret(values),
            Kind::Loop(header) => header,
            Kind::Block | Kind::If(_) | Kind::Skipped(_) => self.join(index),
        };
        for (place, (value, ty)) in values.iter().zip(types).enumerate() {
            let home = self.home(height + place, ty);
            self.b.set(home, *value);
        }
        self.b.goto(block);
    }

    /// The values on top of the stack that a branch to a label takes; they stay there.
    fn label_values(&mut self, label: u32) -> SmallVec<[Node; 8]> {
        let count = self.label_arity(label);
        (self.stack.len() - count..self.stack.len()).map(|depth| self.peek(depth)).collect()
    }

    fn br(&mut self, label: u32) {
        let values = self.label_values(label);
        self.transfer(label, &values);
        self.is_reachable = false;
    }

    fn br_if(&mut self, label: u32) {
        self.make_room();
        let condition = self.pop();
        match self.known(condition) {
            None => {}
            Some(true) => return self.br(label),
            Some(false) => return,
        }
        let values = self.label_values(label);
        let next = self.extension();
        let parent = self.place;
        match self.direct(label) {
            Some(block) => self.b.branch(condition, block, next),
            None => {
                let edge = self.extension();
                self.b.branch(condition, edge, next);
                self.begin_extension(edge, parent);
                self.transfer(label, &values);
            }
        }
        self.begin_extension(next, parent);
    }

    /// The block of a label that takes no values, so that an edge needs no block of its own.
    fn direct(&mut self, label: u32) -> Option<Block> {
        let index = self.target(label);
        match self.frames[index].kind {
            _ if !self.frames[index].label.is_empty() => None,
            Kind::Function => None,
            Kind::Loop(header) => Some(header),
            Kind::Block | Kind::If(_) | Kind::Skipped(_) => Some(self.join(index)),
        }
    }

    fn br_table(&mut self, targets: &BrTable<'_>) -> Result<(), Error> {
        self.make_room();
        let selector = self.pop();
        let values = self.label_values(targets.default());
        let parent = self.place;
        let mut blocks: HashMap<u32, Block> = HashMap::new();
        let mut edges = Vec::new();
        let mut cases = Vec::with_capacity(targets.len() as usize);
        for (case, label) in targets.targets().chain([Ok(targets.default())]).enumerate() {
            let label = label?;
            let block = match blocks.get(&label) {
                Some(block) => *block,
                None => {
                    let block = self.direct(label).unwrap_or_else(|| {
                        let edge = self.extension();
                        edges.push((label, edge));
                        edge
                    });
                    blocks.insert(label, block);
                    block
                }
            };
            cases.push((case as u64, block));
        }
        let default = cases.pop().map(|(_, block)| block).expect("the default is the last target");
        self.b.switch(selector, &cases, default);
        for (label, edge) in edges {
            self.begin_extension(edge, parent);
            self.transfer(label, &values);
            self.bound()?;
        }
        self.is_reachable = false;
        Ok(())
    }
}
