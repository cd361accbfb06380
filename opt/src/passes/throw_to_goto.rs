//! Throw to goto: what is thrown where its handler stands in the same method goes there straight.
//!
//! ```text
//!   b1 handlers [guest: b2]:                 b1: set $caught, %o
//!       throw %o                                 goto b2
//!   b2: %c = caught                    ⇒     b2: %c = entry $caught
//!       …                                    b3: set $caught, (caught)        what else is raised arrives here
//!                                                goto b2
//! ```
//!
//! # Why
//!
//! Raising walks the stack and looks addresses up; a jump does not, and what it carries is known where it arrives.
//!
//! # Guarantees
//!
//! * Only where the first handler that catches is known: by kind, and by what is known of the object's class.
//! * The handler sees the same object, kind and reason, and the same locals.
//!
//! # Cost
//!
//! A walk along the extended blocks that end by a throw.

use std::collections::BTreeMap;

use dagwood_il::{
    Block, Edits, Handler, Local, Method, Node, Opcode, Payload, Point, Properties, RaiseKind, Root,
    SourcePos, Type,
};

use crate::analysis::facts::{Facts, Known, Visitor};
use crate::cx::PassCx;
use crate::pass::{Changed, Pass};

/// The pass.
pub const PASS: Pass = Pass {
    name: "throw_to_goto",
    summary: "let what is thrown to a handler of the same method go there straight",
    run,
};

/// An end that raises, and where what it raises is handled.
struct Found {
    block: Block,
    end: Node,
    code: u32,
    handler: Block,
}

/// What is caught by a handler, once others come there too.
struct Landing {
    caught: Vec<(Node, Local)>,
    kind: Vec<(Node, Local)>,
}

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let is_thrower = |block: &Block| {
        !method.handlers(*block).is_empty()
            && method.terminator(*block).is_some_and(|end| code_of(method, end).is_some())
    };
    if !cx.spend(method.block_count() as u64) || !method.blocks().any(|block| is_thrower(&block)) {
        return Changed::No;
    }
    let facts = cx.get::<Facts>(method);
    let heads = cx.heads(method);
    let mut thrown = Thrown { found: Vec::new(), unknown: Vec::new() };
    let mut known = facts.known(cx.module(), method);
    for head in heads {
        facts.walk(&mut known, head, &mut thrown);
    }
    for (block, end) in thrown.unknown {
        cx.missed((block, end), || "its class is not known well enough to say who catches it".to_owned());
    }
    let mut edits = Edits::new();
    let mut landings = BTreeMap::new();
    for found in thrown.found {
        let Found { block, end, handler, .. } = found;
        if !fits(method, &facts, &found) {
            cx.missed((block, end), || format!("{handler} expects something of another type"));
        } else if cx.allows((block, end), || format!("it is handled at {handler}")) {
            let landing =
                landings.entry(handler).or_insert_with(|| land(method, &mut edits, &facts, handler));
            go(method, &mut edits, &found, landing);
        }
    }
    redirect(method, &mut edits, &landings);
    cx.apply(method, edits)
}

/// Whether an end raises.
pub(super) fn raises(method: &Method<'_>, end: Node) -> bool {
    code_of(method, end).is_some()
}

/// What `caught_kind` gives for what an end raises; none if it raises nothing.
fn code_of(method: &Method<'_>, end: Node) -> Option<(RaiseKind, u32)> {
    match (method.opcode(end), method.payload(end)) {
        (Opcode::Throw, _) => Some((RaiseKind::Guest, RaiseKind::Guest.code(0))),
        (Opcode::Raise, Payload::Raise(kind, reason)) => Some((kind, kind.code(reason))),
        _ => None,
    }
}

#[derive(Default)]
struct Thrown {
    found: Vec<Found>,
    /// Ends of which it is not known who catches what they raise.
    unknown: Vec<(Block, Node)>,
}

impl Visitor for Thrown {
    fn root(&mut self, known: &mut Known<'_, '_>, block: Block, _: u32, end: Node) {
        let method = known.method();
        if !method.opcode(end).has(Properties::TERMINATES) {
            return;
        }
        let Some((kind, code)) = code_of(method, end) else { return };
        for handler in method.handlers(block).iter().filter(|handler| handler.kinds.contains(kind)) {
            match catches(known, handler, end) {
                Some(true) => return self.found.push(Found { block, end, code, handler: handler.block }),
                Some(false) => {}
                None => return self.unknown.push((block, end)),
            }
        }
    }
}

/// Whether a handler for its kind catches what the end raises.
fn catches(known: &Known<'_, '_>, handler: &Handler, end: Node) -> Option<bool> {
    let (Some(class), [object, ..]) = (handler.class, known.method().value_operands(end)) else {
        return Some(true);
    };
    let fact = known.fact(*object);
    match known.is_of(fact, class) {
        _ if fact.as_constant() == Some(0) => Some(false),
        Some(true) if !fact.is_nonzero() => None,
        answer => answer,
    }
}

/// The nodes of a handler's extended block that say what was caught.
fn caught(method: &Method<'_>, facts: &Facts, handler: Block, opcode: Opcode) -> Vec<Node> {
    facts.nodes_of(handler).iter().copied().filter(|node| method.opcode(*node) == opcode).collect()
}

/// Whether the handler takes what is thrown for what it is.
fn fits(method: &Method<'_>, facts: &Facts, found: &Found) -> bool {
    let Some(object) = method.value_operands(found.end).first() else { return true };
    let caught = caught(method, facts, found.handler, Opcode::Caught);
    caught.iter().all(|node| method.ty(*node) == method.ty(*object))
}

/// Lets a handler read what was caught from locals.
fn land(method: &mut Method<'_>, edits: &mut Edits, facts: &Facts, handler: Block) -> Landing {
    let mut through = |opcode: Opcode, name: &str| {
        let nodes = caught(method, facts, handler, opcode);
        let locals = nodes.into_iter().map(|node| {
            let ty = method.ty(node);
            let local = method.add_local(name, ty);
            let entry = method.add_node(Opcode::Entry, ty, &[], Payload::Local(local));
            edits.replace(node, entry);
            (node, local)
        });
        locals.collect()
    };
    Landing { caught: through(Opcode::Caught, "caught"), kind: through(Opcode::CaughtKind, "caught_kind") }
}

/// Ends a block by going to the handler with what it raised.
fn go(method: &mut Method<'_>, edits: &mut Edits, found: &Found, landing: &Landing) {
    let last = u32::try_from(method.roots(found.block).len() - 1).expect("blocks have fewer than 2^32 roots");
    let point = Point { block: found.block, position: last };
    let object = method.value_operands(found.end).first().copied();
    let mut set = |method: &mut Method<'_>, local: Local, value: Node| {
        let root = method.add_node(Opcode::Set, Type::Void, &[value], Payload::Local(local));
        edits.insert(point, root, SourcePos::NONE);
    };
    for (node, local) in &landing.caught {
        let ty = method.ty(*node);
        let value = object.unwrap_or_else(|| method.add_node(Opcode::Const, ty, &[], Payload::Const(0)));
        set(method, *local, value);
    }
    for (_, local) in &landing.kind {
        let value = method.add_node(Opcode::Const, Type::I32, &[], Payload::Const(found.code.into()));
        set(method, *local, value);
    }
    let end = method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(found.handler));
    edits.end(found.block, end);
}

/// What is raised otherwise arrives at blocks that put it into the same locals.
fn redirect(method: &mut Method<'_>, edits: &mut Edits, landings: &BTreeMap<Block, Landing>) {
    let mut arrivals = BTreeMap::new();
    for (handler, landing) in landings {
        let data = *method.block(*handler);
        let arrival = method.add_block(None, data.handlers);
        method.set_frequency(arrival, data.frequency);
        let mut roots = Vec::new();
        for (node, local) in landing.caught.iter().chain(&landing.kind) {
            let value = method.add_node(method.opcode(*node), method.ty(*node), &[], Payload::None);
            roots.push(method.add_node(Opcode::Set, Type::Void, &[value], Payload::Local(*local)));
        }
        roots.push(method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(*handler)));
        let roots: Vec<Root> =
            roots.into_iter().map(|node| Root { node, position: SourcePos::NONE }).collect();
        method.set_roots(arrival, &roots);
        arrivals.insert(*handler, arrival);
    }
    for block in method.blocks() {
        let handlers = method.handlers(block);
        if handlers.iter().any(|handler| arrivals.contains_key(&handler.block)) {
            let place = |handler: &Handler| {
                let block = arrivals.get(&handler.block).copied().unwrap_or(handler.block);
                Handler { block, ..*handler }
            };
            let handlers: Vec<Handler> = handlers.iter().map(place).collect();
            let list = method.add_handlers(&handlers);
            edits.set_handlers(block, Some(list));
        }
    }
}
