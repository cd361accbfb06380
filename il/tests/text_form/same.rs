//! Whether two methods are the same but for the numbers of their nodes.

use std::collections::HashMap;

use bumpalo::Bump;
use dagwood_il::*;

/// What a payload says, with what it refers to in place of indexes into the method's own tables.
fn meaning(method: &Method<'_>, node: Node) -> String {
    match method.payload(node) {
        Payload::Wide(wide) => format!("{:x}", method.wide(wide)),
        Payload::Switch(table) => format!("{:?}", method.switch(table)),
        Payload::Frame(info) => format!("{:?}", method.frame(info)),
        Payload::Virtual(info) => format!("{:?}", method.virtual_object(info)),
        Payload::Guard(info) => format!("{:?}", method.guard(info)),
        // The scale of an index that is not there means nothing.
        Payload::Access(access) if method.operands(node).len() < method.opcode(node).row().operands.len() => {
            format!("{:?}", Access { scale: 1, ..access })
        }
        other => format!("{other:?}"),
    }
}

/// Fails with a sentence unless the methods are the same: ids, locals, slots, blocks, roots, and the nodes below them.
pub(crate) fn assert_same(left: &Method<'_>, right: &Method<'_>) {
    assert_eq!(left.id(), right.id());
    assert_eq!(left.param_count(), right.param_count(), "as many parameters");
    let locals =
        |method: &Method<'_>| method.locals().map(|l| format!("{:?}", method.local(l))).collect::<Vec<_>>();
    assert_eq!(locals(left), locals(right));
    let slots =
        |method: &Method<'_>| method.slots().map(|s| format!("{:?}", method.slot(s))).collect::<Vec<_>>();
    assert_eq!(slots(left), slots(right));
    assert_eq!(left.block_count(), right.block_count(), "as many blocks");
    let (mut pairs, mut pending) = (HashMap::new(), Vec::new());
    for block in left.blocks() {
        let (a, b) = (left.block(block), right.block(block));
        assert_eq!((a.extends, a.frequency), (b.extends, b.frequency), "{block}");
        assert_eq!(left.handlers(block), right.handlers(block), "handlers of {block}");
        assert_eq!(a.handlers.is_some(), b.handlers.is_some(), "whether {block} has a list of handlers");
        assert_eq!(a.roots.len(), b.roots.len(), "as many roots in {block}");
        for (a, b) in a.roots.iter().zip(b.roots) {
            assert_eq!(a.position, b.position, "of a root in {block}");
            pending.push((a.node, b.node));
        }
    }
    while let Some((a, b)) = pending.pop() {
        if let Some(old) = pairs.insert(a, b) {
            assert_eq!(old, b, "{a} stands for one node");
            continue;
        }
        assert_eq!((left.opcode(a), left.ty(a)), (right.opcode(b), right.ty(b)), "{a} and {b}");
        assert_eq!(meaning(left, a), meaning(right, b), "payloads of {a} and {b}");
        let (operands_a, operands_b) = (left.operands(a), right.operands(b));
        assert_eq!(operands_a.len(), operands_b.len(), "as many operands of {a} and {b}");
        let is_dead = |method: &Method<'_>, node: Node| method.opcode(node) == Opcode::Dead;
        for (a, b) in operands_a.iter().zip(operands_b) {
            assert_eq!(is_dead(left, *a), is_dead(right, *b), "dead operands");
            if !is_dead(left, *a) {
                pending.push((*a, *b));
            }
        }
    }
}

/// Prints, reads, compares, and prints again; gives the text.
pub(crate) fn round_trip(module: &Module, methods: &[&Method<'_>]) -> String {
    let printed = text::print_module(module, methods);
    let arena = Bump::new();
    let parsed = text::parse(&printed, &arena).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(&parsed.module, module, "the declarations are the same\n{printed}");
    assert_eq!(parsed.bodies.len(), methods.len());
    let mut methods = methods.to_vec();
    methods.sort_by_key(|method| method.id());
    for (method, body) in methods.iter().zip(&parsed.bodies) {
        assert_same(method, &body.method);
    }
    let again: Vec<&Method<'_>> = parsed.bodies.iter().map(|body| &body.method).collect();
    assert_eq!(text::print_module(&parsed.module, &again), printed);
    printed
}

/// Reads a source that must be right.
pub(crate) fn parse<'a>(source: &str, arena: &'a Bump) -> text::Source<'a> {
    text::parse(source, arena).unwrap_or_else(|error| panic!("{error}\n{source}"))
}

/// Reads and prints.
pub(crate) fn reprint(source: &str) -> String {
    let arena = Bump::new();
    let parsed = parse(source, &arena);
    let methods: Vec<&Method<'_>> = parsed.bodies.iter().map(|body| &body.method).collect();
    round_trip(&parsed.module, &methods)
}
