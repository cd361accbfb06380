//! Edits that change nothing but the graph: splits, duplicates, preheaders, blocks on edges, inlining, wherever the bytes say.

use dagwood_il::{
    Block, BuildError, Cfg, Edits, Method, MethodId, Module, Opcode, Payload, Point, Root, SourcePos, Type,
};

use crate::choices::Choices;

/// How many edits there are at most.
const MOST: usize = 6;

/// Changes the graph of a method, and not what it does. `body` builds the body of another one.
pub(crate) fn reshape<'a>(
    module: &Module,
    method: &mut Method<'a>,
    choices: &mut Choices<'_>,
    body: impl Fn(MethodId) -> Result<Method<'a>, BuildError>,
) -> Result<(), BuildError> {
    let cfg = Cfg::compute(module, method);
    let mut edits = Edits::new();
    for _ in 0..=choices.below(MOST) {
        let Some(&block) = choices.pick(cfg.order()) else { return Ok(()) };
        let successors = method.successors(block);
        match (choices.below(4), choices.pick(&successors).copied()) {
            (1, Some(to)) => edits.on_edge(block, to, &[]),
            (2, Some(to)) if method.block(to).extends.is_none() => {
                edits.duplicate(method, block, to);
            }
            (3, Some(to)) if method.block(to).extends.is_none() => {
                let from: Vec<Block> = cfg
                    .predecessors(to)
                    .iter()
                    .filter(|edge| !edge.is_exception())
                    .map(|edge| edge.block)
                    .collect();
                let chosen = &from[..=choices.below(from.len())];
                let header = edits.preheader(method, to, chosen, &[]);
                edits.duplicate(method, chosen[0], header);
            }
            _ => {
                let position = choices.below(method.roots(block).len()) as u32;
                let tail = edits.split(method, Point { block, position });
                fork(method, &mut edits, block, tail);
                if choices.one_in(2) {
                    edits.duplicate(method, block, tail);
                }
            }
        }
    }
    let mut calls = Vec::new();
    for block in cfg.order() {
        for root in method.roots(*block) {
            if let Payload::Method(callee) = method.payload(root.node)
                && choices.one_in(2)
            {
                calls.push((root.node, callee));
            }
        }
    }
    for (call, callee) in calls.into_iter().take(MOST) {
        // A tail call stays.
        let _ = edits.inline(module, method, call, &body(callee)?);
    }
    edits.apply(module, method);
    Ok(())
}

/// Lets a block reach the one at which it goes on by two ways, so that they are not joined again.
fn fork(method: &mut Method<'_>, edits: &mut Edits, block: Block, to: Block) {
    let Some(local) =
        method.locals().take(method.param_count()).find(|local| method.local(*local).ty == Type::I32)
    else {
        return;
    };
    let handlers = method.block(block).handlers;
    let fork = method.add_block(Some(block), handlers);
    let [left, right] = [(), ()].map(|()| method.add_block(Some(fork), handlers));
    let condition = method.add_node(Opcode::Entry, Type::I32, &[], Payload::Local(local));
    let ends = [
        (fork, &[condition][..], Opcode::Branch, Payload::Branch(left, right)),
        (left, &[], Opcode::Goto, Payload::Goto(to)),
        (right, &[], Opcode::Goto, Payload::Goto(to)),
    ];
    for (block, operands, opcode, payload) in ends {
        let node = method.add_node(opcode, Type::Void, operands, payload);
        method.set_roots(block, &[Root { node, position: SourcePos::NONE }]);
    }
    edits.retarget(block, to, fork);
}
