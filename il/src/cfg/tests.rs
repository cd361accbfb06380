//! Graphs made by hand and at random, against definitions followed literally.

use bumpalo::Bump;

use super::*;
use crate::method::{Node, Payload, Root, SourcePos};
use crate::module::MethodId;
use crate::opcode::Opcode;
use crate::raise::RaiseKind;
use crate::types::Type;

/// A module with one method, `m`, without parameters and results.
pub(crate) fn module() -> (Module, MethodId) {
    let mut module = Module::new();
    let id = module.declare_method("m", &[], &[]);
    (module, id)
}

/// Gives a block roots that come from nowhere.
pub(crate) fn fill(method: &mut Method<'_>, block: Block, nodes: &[Node]) {
    let roots: Vec<Root> = nodes.iter().map(|node| Root { node: *node, position: SourcePos::NONE }).collect();
    method.set_roots(block, &roots);
}

/// A method whose blocks, all heads, continue where `successors` says: nowhere, at one or at several blocks.
fn graph<'a>(arena: &'a Bump, id: MethodId, successors: &[Vec<usize>]) -> Method<'a> {
    let mut method = Method::new(arena, id);
    let zero = method.add_node(Opcode::Const, Type::I32, &[], Payload::Const(0));
    for _ in successors {
        method.add_block(None, None);
    }
    for (index, to) in successors.iter().enumerate() {
        let to: Vec<Block> = to.iter().map(|block| Block::new(*block)).collect();
        let end = match to.as_slice() {
            [] => method.add_node(Opcode::Return, Type::Void, &[], Payload::None),
            [to] => method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(*to)),
            [cases @ .., default] => {
                let cases: Vec<(u64, Block)> = (0..).zip(cases.iter().copied()).collect();
                let table = method.add_switch(&cases, *default);
                method.add_node(Opcode::Switch, Type::Void, &[zero], Payload::Switch(table))
            }
        };
        fill(&mut method, Block::new(index), &[end]);
    }
    method
}

fn cfg_of(successors: &[Vec<usize>]) -> Cfg {
    let arena = Bump::new();
    let (module, id) = module();
    Cfg::compute(&module, &graph(&arena, id, successors))
}

fn blocks(edges: &[Edge]) -> Vec<usize> {
    edges.iter().map(|edge| edge.block.index()).collect()
}

/// A small generator of numbers that look random.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Which blocks can be reached from the entry when `without` is taken away.
fn reached(successors: &[Vec<usize>], without: Option<usize>) -> Vec<bool> {
    let mut seen = vec![false; successors.len()];
    let mut pending = vec![0];
    while let Some(block) = pending.pop() {
        if Some(block) != without && !std::mem::replace(&mut seen[block], true) {
            pending.extend(&successors[block]);
        }
    }
    seen
}

#[test]
fn edges_are_listed_once_in_both_directions_and_the_order_is_topological() {
    let cfg = cfg_of(&[vec![1, 2, 1], vec![3], vec![3], vec![], vec![3]]);
    assert_eq!(blocks(cfg.successors(Block::new(0))), [1, 2]);
    assert_eq!(blocks(cfg.predecessors(Block::new(3))), [1, 2, 4]);
    assert_eq!(cfg.order(), [0, 1, 2, 3].map(Block::new));
    assert!(!cfg.is_reachable(Block::new(4)));
}

#[test]
fn a_block_without_anything_to_raise_has_no_exception_edges() {
    let arena = Bump::new();
    let (module, id) = module();
    let mut method = Method::new(&arena, id);
    let entry = method.add_block(None, None);
    let handler = |kinds, class, block| Handler { kinds, class, block: Block::new(block) };
    let list = method.add_handlers(&[
        handler(KindSet::BOUNDS, None, 3),
        handler(KindSet::BOUNDS.union(KindSet::NULL), None, 4),
        handler(KindSet::DIVISION, None, 5),
    ]);
    let (quiet, raising) = (method.add_block(None, Some(list)), method.add_block(Some(entry), Some(list)));
    let returning = method.add_node(Opcode::Return, Type::Void, &[], Payload::None);
    for _ in 3..=5 {
        let block = method.add_block(None, None);
        fill(&mut method, block, &[returning]);
    }
    let index = method.add_node(Opcode::Const, Type::I32, &[], Payload::Const(0));
    let null = method.add_node(Opcode::Const, Type::Ref, &[], Payload::Const(0));
    let payload = Payload::Raise(RaiseKind::Bounds, 0);
    let bounds = method.add_node(Opcode::BoundsCheck, Type::I32, &[index, index], payload);
    let nonnull = method.add_node(Opcode::NullCheck, Type::Ref, &[null], Payload::Raise(RaiseKind::Null, 0));
    let branch = method.add_node(Opcode::Branch, Type::Void, &[index], Payload::Branch(quiet, raising));
    fill(&mut method, entry, &[branch]);
    fill(&mut method, quiet, &[returning]);
    fill(&mut method, raising, &[bounds, nonnull, returning]);

    let cfg = Cfg::compute(&module, &method);
    assert_eq!(cfg.successors(quiet), []);
    assert_eq!(cfg.successors(entry)[1], Edge { block: raising, kind: EdgeKind::Extension });
    let caught = |block, kinds| Edge { block: Block::new(block), kind: EdgeKind::Exception(kinds) };
    assert_eq!(cfg.successors(raising), [caught(3, KindSet::BOUNDS), caught(4, KindSet::NULL)]);
    assert_eq!(
        cfg.raise_points(raising),
        [
            RaisePoint { position: 0, kinds: KindSet::BOUNDS },
            RaisePoint { position: 1, kinds: KindSet::NULL }
        ]
    );
    assert!(!cfg.is_reachable(Block::new(5)), "nothing raises division");
}

#[test]
fn a_handler_for_one_class_leaves_the_rest_to_others() {
    let handler = |kinds, class, block| Handler { kinds, class, block: Block::new(block) };
    let class = crate::module::ClassId::new(0);
    let handlers = [
        handler(KindSet::GUEST.union(KindSet::NULL), Some(class), 1),
        handler(KindSet::CATCHABLE, None, 2),
        handler(KindSet::CATCHABLE, None, 3),
    ];
    let kinds = KindSet::GUEST.union(KindSet::NULL).union(KindSet::FAULT);
    let reached: Vec<(usize, KindSet)> =
        reached_handlers(&handlers, kinds).map(|(handler, kinds)| (handler.block.index(), kinds)).collect();
    assert_eq!(reached, [(1, KindSet::GUEST.union(KindSet::NULL)), (2, KindSet::GUEST)]);
}

#[test]
fn dominators_and_loops_agree_with_their_definitions_on_random_graphs() {
    let mut numbers = Numbers(7);
    for _ in 0..300 {
        let count = 1 + numbers.below(12);
        let successors: Vec<Vec<usize>> = (0..count)
            .map(|_| {
                (0..numbers.below(4)).map(|_| 1 + numbers.below(count)).filter(|to| *to < count).collect()
            })
            .collect();
        let cfg = cfg_of(&successors);
        let dominators = Dominators::compute(&cfg);
        let all = reached(&successors, None);
        let without: Vec<Vec<bool>> = (0..count).map(|block| reached(&successors, Some(block))).collect();
        let is_dominated = |above: usize, below: usize| all[above] && all[below] && !without[above][below];
        for below in 0..count {
            let block = Block::new(below);
            for above in 0..count {
                let found = dominators.dominates(Block::new(above), block);
                assert_eq!(found, is_dominated(above, below), "{above} above {below} in {successors:?}");
                if all[above] && all[below] {
                    let common = dominators.common(Block::new(above), block).expect("both can be reached");
                    let both = |at: usize| is_dominated(at, above) && is_dominated(at, below);
                    assert!(both(common.index()));
                    assert!((0..count).all(|at| !both(at) || is_dominated(at, common.index())));
                }
            }
            let strictly = (0..count).filter(|above| *above != below && is_dominated(*above, below)).count();
            assert_eq!(dominators.depth(block), all[below].then_some(strictly as u32));
            assert_eq!(dominators.immediate(block).is_some(), all[below] && below != 0);
        }
        check_loops(&successors, &cfg, &dominators);
    }
}

/// The body of the natural loop with a header, by its definition; empty if the block is no header.
fn natural_loop(successors: &[Vec<usize>], cfg: &Cfg, dominators: &Dominators, header: usize) -> Vec<bool> {
    let mut body = vec![false; successors.len()];
    let sources = |to: usize| {
        let edges = cfg.predecessors(Block::new(to)).iter().map(|edge| edge.block);
        edges.filter(|from| cfg.is_reachable(*from)).map(Entity::index)
    };
    let mut pending: Vec<usize> =
        sources(header).filter(|from| dominators.dominates(Block::new(header), Block::new(*from))).collect();
    if !pending.is_empty() {
        body[header] = true;
    }
    while let Some(block) = pending.pop() {
        if !std::mem::replace(&mut body[block], true) {
            pending.extend(sources(block));
        }
    }
    body
}

fn check_loops(successors: &[Vec<usize>], cfg: &Cfg, dominators: &Dominators) {
    let loops = Loops::compute(cfg, dominators);
    let bodies: Vec<Vec<bool>> =
        (0..successors.len()).map(|header| natural_loop(successors, cfg, dominators, header)).collect();
    let headers: Vec<usize> = (0..successors.len()).filter(|header| bodies[*header][*header]).collect();
    assert_eq!(loops.loops().count(), headers.len());
    for (which, data) in loops.loops() {
        assert!(data.parent.is_none_or(|parent| parent < which));
        let body = &bodies[data.header.index()];
        for (block, is_inside) in body.iter().enumerate() {
            assert_eq!(
                loops.contains(which, Block::new(block)),
                *is_inside,
                "{block} in {data:?}, {successors:?}"
            );
        }
    }
    for block in (0..successors.len()).rev() {
        let depth = headers.iter().filter(|header| bodies[**header][block]).count();
        assert_eq!(loops.depth(Block::new(block)) as usize, depth);
        assert_eq!(loops.is_header(Block::new(block)), headers.contains(&block));
    }
}

#[test]
fn a_cycle_with_two_entries_is_irreducible() {
    let cfg = cfg_of(&[vec![1, 2], vec![2], vec![1]]);
    let loops = Loops::compute(&cfg, &Dominators::compute(&cfg));
    assert_eq!(loops.loops().count(), 0);
    assert_eq!(loops.irreducible_edges().len(), 1);
}

#[test]
fn a_million_blocks_in_a_chain_of_loops_need_neither_stack_nor_patience() {
    let count = 1_000_000;
    // Forward to the next block, and back to the one before: as deep as graphs get.
    let successors: Vec<Vec<usize>> = (0..count)
        .map(|block| match block {
            0 => vec![1],
            last if last == count - 1 => vec![],
            _ => vec![block + 1, 1.max(block - 1)],
        })
        .collect();
    let cfg = cfg_of(&successors);
    let dominators = Dominators::compute(&cfg);
    let loops = Loops::compute(&cfg, &dominators);
    assert_eq!(cfg.order().len(), count);
    assert_eq!(dominators.depth(Block::new(count - 1)), Some(count as u32 - 1));
    assert_eq!(loops.loops().count(), count - 3);
}
