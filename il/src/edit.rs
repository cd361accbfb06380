//! Edits: the one way in which a pass changes a method.
//!
//! ```text
//!   method ──(a pass walks it, changing nothing)──► Edits ──apply──► the copy of the method, edited
//!                                                              └ what `copy` does by itself: see below
//! ```
//!
//! A pass collects what is to be different and applies it at once. Applying copies the method through the
//! [`Builder`](crate::Builder), which folds, numbers and forwards locals as it does for a frontend. The copy has no pure node
//! that nobody uses, no root without effect whose value nobody uses, no `set` of a local that nobody reads, no block that
//! is not reached, no handler at which nothing arrives; and a head that only one block continues at has become a part of
//! that one, or continues its extended block.
//!
//! New nodes, blocks and locals are made with the method's own functions ([`Method::add_node`], [`Method::add_block`],
//! [`Method::add_local`], …). They belong to no list, and nobody but `apply` must see the method until then. A new local may
//! have the name of another: the copy gives it one of its own.
//!
//! # Why
//!
//! Changing a graph in place means keeping uses, orders and lists right after each step, in every pass. A copy needs none
//! of that, and simplification, local value numbering, dead and unreachable code, constant branches and merging blocks
//! are no passes: each rebuild does them.
//!
//! # Guarantees
//!
//! * If what is asked for keeps the meaning, so does the copy; rebuilding without edits does.
//! * The copy of a method that the verifier accepts is one that it accepts, provided that each edit is available where it
//!   is used, as the functions below ask.
//! * Frequencies and source positions are kept. Blocks are in reverse post-order, and nodes in the order of their blocks.
//! * Deterministic. Nothing recurses.
//!
//! # Cost
//!
//! Linear in the method, whatever the number of edits: so a pass applies once, at its end. About 100 ns a node.

mod copy;
mod finish;
mod inline;
mod lists;
mod names;
mod plan;
mod shape;
mod split;
#[cfg(test)]
mod tests;

use crate::entity::EntityVec;
use crate::method::{Block, Frequency, HandlerList, Local, Method, Node, Root, SourcePos};
use crate::module::Module;
pub use inline::{MAX_INLINED_SLOT_BYTES, NotInlined};
use lists::Source;
use split::Crossing;

/// A place in a block's list: before the root at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The block.
    pub block: Block,
    /// The index of the root in its list.
    pub position: u32,
}

/// What is to be different in a method. Plain data; blocks and positions are those of the method as it is.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    replaced: Vec<(Node, Node)>,
    operands: Vec<(Node, usize, Node)>,
    removed: Vec<Node>,
    changed: Vec<(Node, Node)>,
    inserted: Vec<(Point, Root)>,
    ended: Vec<(Block, Node)>,
    splits: Vec<(Point, Block)>,
    bodies: Vec<inline::Body>,
    shapes: Vec<Shape>,
    frequencies: Vec<(Block, Option<Frequency>)>,
    handlers: Vec<(Block, Option<HandlerList>)>,
}

/// A change of the graph.
#[derive(Clone, Debug)]
enum Shape {
    Retarget { block: Block, from: Block, to: Block },
    OnEdge { from: Block, to: Block, roots: Vec<Node> },
    Preheader { block: Block, header: Block, from: Vec<Block>, roots: Vec<Node> },
    Duplicate { block: Block, from: Block, to: Block },
}

/// Where things went when edits were applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// By old block, pending ones included: its copy, or the block into which it was merged; none if it is not reached.
    pub blocks: EntityVec<Block, Option<Block>>,
    /// By old local, pending ones included: the same in the copy; none if nobody reads it.
    pub locals: EntityVec<Local, Option<Local>>,
}

impl Edits {
    /// No edits.
    pub fn new() -> Edits {
        Edits::default()
    }

    /// Whether nothing is to be different.
    pub fn is_empty(&self) -> bool {
        let Edits {
            replaced,
            operands,
            removed,
            changed,
            inserted,
            ended,
            splits,
            bodies,
            shapes,
            frequencies,
            handlers,
        } = self;
        let of_values = replaced.is_empty() && operands.is_empty();
        let of_roots = removed.is_empty() && changed.is_empty() && inserted.is_empty() && ended.is_empty();
        let of_graph = splits.is_empty() && bodies.is_empty() && shapes.is_empty();
        of_values && of_roots && of_graph && frequencies.is_empty() && handlers.is_empty()
    }

    /// Every use of `node`, in roots, pure nodes and frame states, uses `with`, which must be available at all of them: a
    /// constant, an operand of it, a root that happens before, an `entry` of the same head. What `with` is computed from
    /// must not need `node`.
    pub fn replace(&mut self, node: Node, with: Node) {
        self.replaced.push((node, with));
    }

    /// One use: operand `index` of `user` is `with`. So a fact is used that holds in one place only.
    pub fn replace_operand(&mut self, user: Node, index: usize, with: Node) {
        self.operands.push((user, index, with));
    }

    /// The root no longer happens. Where its value is used, also in frame states, `replace` it as well.
    pub fn remove(&mut self, root: Node) {
        self.removed.push(root);
    }

    /// `to`, a new root, happens in its place. Where they have the same type, uses of its value use that of `to`.
    pub fn change(&mut self, root: Node, to: Node) {
        self.changed.push((root, to));
    }

    /// A new root happens before the one at `point`; of several at one point, the first that was inserted is the first to
    /// happen. Without a position in the source it gets that of the root at `point`.
    pub fn insert(&mut self, point: Point, root: Node, position: SourcePos) {
        self.inserted.push((point, Root { node: root, position }));
    }

    /// The block ends by this new root.
    pub fn end(&mut self, block: Block, terminator: Node) {
        self.ended.push((block, terminator));
    }

    // ---- the graph: what follows happens after all of the above; first splits, then inlining, then the rest in the
    // order in which it is asked for ----

    /// What is in the block's list from `point` on, and all blocks below, become an extended block of their own, whose
    /// head is returned. From then on `point.block` is what is before the point; it ends with `goto`. What crosses goes
    /// through new locals; what dies at the next yield point is computed again. If nothing else leads to the head, the copy joins
    /// the two again.
    pub fn split(&mut self, method: &mut Method<'_>, point: Point) -> Block {
        let tail = method.add_block(None, None);
        self.splits.push((point, tail));
        tail
    }

    /// The call becomes the body of `callee`, a method that has the signature of the call and may live in another arena. The
    /// block that goes on behind the call is returned; as after a split, the call's block is what is before it. What the
    /// callee raises reaches the call's handlers after its own; its frame states get the call's as parent; its tail calls
    /// become calls. The `stack_overflow` that the call might have raised is gone.
    ///
    /// # Errors
    ///
    /// Why that cannot be; then nothing is different.
    pub fn inline(
        &mut self,
        module: &Module,
        method: &mut Method<'_>,
        call: Node,
        callee: &Method<'_>,
    ) -> Result<Block, NotInlined> {
        let body = inline::import(module, method, call, callee)?;
        let tail = body.tail;
        self.bodies.push(body);
        Ok(tail)
    }

    /// Whether [`Edits::inline`] can do what it is asked for.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn can_inline(
        module: &Module,
        method: &Method<'_>,
        call: Node,
        callee: &Method<'_>,
    ) -> Result<(), NotInlined> {
        inline::check(module, method, call, callee)
    }

    /// The edges from the end of `block` to `from` go to `to`, a head, instead.
    pub fn retarget(&mut self, block: Block, from: Block, to: Block) {
        self.shapes.push(Shape::Retarget { block, from, to });
    }

    /// The new roots happen on the edges from the end of `from` to `to`, where what `from` has is available. A block is made
    /// for them where they can stand in neither.
    pub fn on_edge(&mut self, from: Block, to: Block, roots: &[Node]) {
        self.shapes.push(Shape::OnEdge { from, to, roots: roots.to_vec() });
    }

    /// The edges from the ends of `from` to `header` go through one new head, in which the roots happen: it is returned.
    /// Roots that raise in it reach the handlers of `header`.
    pub fn preheader(
        &mut self,
        method: &mut Method<'_>,
        header: Block,
        from: &[Block],
        roots: &[Node],
    ) -> Block {
        let block = method.add_block(None, None);
        self.shapes.push(Shape::Preheader { block, header, from: from.to_vec(), roots: roots.to_vec() });
        block
    }

    /// The edges from the end of `from` to `to`, a head, go to a copy of its extended block; the head of that is
    /// returned. What leads back to `to` from within the copy leads to the original. What is edited in the one is edited in the
    /// other. Frequencies are divided.
    pub fn duplicate(&mut self, method: &mut Method<'_>, from: Block, to: Block) -> Block {
        let block = method.add_block(None, None);
        self.shapes.push(Shape::Duplicate { block, from, to });
        block
    }

    /// Says how often a block runs.
    pub fn set_frequency(&mut self, block: Block, frequency: Option<Frequency>) {
        self.frequencies.push((block, frequency));
    }

    /// Says which handlers what a block raises reaches: a list of the method's, in which new blocks may stand. As it is before splits, so for
    /// both parts.
    pub fn set_handlers(&mut self, block: Block, handlers: Option<HandlerList>) {
        self.handlers.push((block, handlers));
    }

    /// Applies the edits: `method` becomes the copy.
    ///
    /// # Panics
    ///
    /// If a value needs itself after all replacements.
    pub fn apply(mut self, module: &Module, method: &mut Method<'_>) -> Applied {
        let mut source = Source::of(method);
        if self.is_empty() {
            return copy::replace(module, method, &source);
        }
        for (user, index, with) in &self.operands {
            let mut operands = method.operands(*user).to_vec();
            operands[*index] = *with;
            source.refold(*user);
            method.replace_node(*user, method.opcode(*user), &operands, method.payload(*user));
        }
        for (node, with) in &self.replaced {
            source.replace(method, *node, *with);
        }
        for (block, frequency) in &self.frequencies {
            method.set_frequency(*block, *frequency);
        }
        for (block, handlers) in &self.handlers {
            method.set_handlers(*block, *handlers);
        }
        lists::edit(&mut self, method, &mut source);
        let mut crossing = Crossing::default();
        // The last first: so what is cut off is not cut again.
        for (point, tail) in self.splits.iter().rev() {
            let place = (point.block, point.position as usize);
            split::split(method, &mut source, &mut crossing, place, *tail, 0);
        }
        if !self.bodies.is_empty() {
            inline::place(method, &mut source, &mut crossing, &self.bodies);
        }
        for shape in &self.shapes {
            shape::reshape(method, &mut source, shape);
        }
        split::cut_deep(method, &mut source, &mut crossing);
        copy::replace(module, method, &source)
    }
}
