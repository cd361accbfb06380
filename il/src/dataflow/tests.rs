//! Liveness and assignment on methods made by hand, and on random ones against a walk along every path.

use bumpalo::Bump;

use super::*;
use crate::cfg::tests::{Numbers, fill, module};
use crate::method::{Handler, Local, Payload};
use crate::module::{MethodId, Module};
use crate::opcode::Opcode;
use crate::raise::KindSet;
use crate::types::Type;

/// A method whose blocks are lists of words: `use N`, `set N`, `call`; see [`Step`].
struct Made<'a> {
    module: Module,
    method: Method<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Reads a local at the head.
    Use(usize),
    /// Sets a local.
    Set(usize),
    /// May raise.
    Call,
}

#[derive(Clone, Debug, Default)]
struct Plan {
    steps: Vec<Step>,
    successors: Vec<usize>,
    handler: Option<usize>,
}

fn plan(steps: &[Step], successors: &[usize], handler: Option<usize>) -> Plan {
    Plan { steps: steps.to_vec(), successors: successors.to_vec(), handler }
}

fn make<'a>(arena: &'a Bump, locals: usize, params: usize, plans: &[Plan]) -> Made<'a> {
    let (module, id) = module();
    let mut method = Method::new(arena, id);
    for index in 0..locals {
        let name = format!("x{index}");
        match index < params {
            true => method.add_param(&name, Type::I32),
            false => method.add_local(&name, Type::I32),
        };
    }
    for plan in plans {
        let handlers = plan.handler.map(|block| {
            method.add_handlers(&[Handler {
                kinds: KindSet::CATCHABLE,
                class: None,
                block: Block::new(block),
            }])
        });
        method.add_block(None, handlers);
    }
    for (index, plan) in plans.iter().enumerate() {
        make_block(&mut method, id, Block::new(index), plan);
    }
    Made { module, method }
}

fn make_block(method: &mut Method<'_>, id: MethodId, block: Block, plan: &Plan) {
    let value = method.add_node(Opcode::Const, Type::I32, &[], Payload::Const(1));
    let mut nodes = Vec::new();
    let mut used = vec![value];
    for step in &plan.steps {
        match step {
            Step::Use(local) => {
                let payload = Payload::Local(Local::new(*local));
                used.push(method.add_node(Opcode::Entry, Type::I32, &[], payload));
            }
            Step::Set(local) => {
                let payload = Payload::Local(Local::new(*local));
                nodes.push(method.add_node(Opcode::Set, Type::Void, &[value], payload));
            }
            Step::Call => nodes.push(method.add_node(Opcode::Call, Type::Void, &[], Payload::Method(id))),
        }
    }
    let condition = used
        .into_iter()
        .reduce(|left, right| method.add_node(Opcode::Add, Type::I32, &[left, right], Payload::None))
        .expect("the constant is among them");
    let to: Vec<Block> = plan.successors.iter().map(|block| Block::new(*block)).collect();
    nodes.push(match to.as_slice() {
        [] => method.add_node(Opcode::Return, Type::Void, &[condition], Payload::None),
        [cases @ .., default] => {
            let cases: Vec<(u64, Block)> = (0..).zip(cases.iter().copied()).collect();
            let table = method.add_switch(&cases, *default);
            method.add_node(Opcode::Switch, Type::Void, &[condition], Payload::Switch(table))
        }
    });
    fill(method, block, &nodes);
}

fn live(made: &Made<'_>) -> Vec<Vec<usize>> {
    let cfg = Cfg::compute(&made.module, &made.method);
    let live = Liveness::compute(&made.method, &cfg).expect("it is small");
    made.method.blocks().map(|block| live.live_in(block).map(Entity::index).collect()).collect()
}

/// The locals read before they are assigned, with the block of the read.
fn unassigned(made: &Made<'_>) -> Vec<(usize, usize)> {
    let cfg = Cfg::compute(&made.module, &made.method);
    let heads = heads_of_uses(&made.method);
    let reads = unassigned_reads(&made.method, &cfg, &heads).expect("it is small");
    let mut reads: Vec<(usize, usize)> = reads
        .into_iter()
        .map(|node| match (made.method.payload(node), heads[node]) {
            (Payload::Local(local), Some(head)) => (head.index(), local.index()),
            other => panic!("{other:?} is no read"),
        })
        .collect();
    reads.sort_unstable();
    reads.dedup();
    reads
}

#[test]
fn a_handler_sees_locals_as_of_each_raising_root() {
    let arena = Bump::new();
    let handled = |steps: &[Step]| {
        vec![plan(&[Step::Set(1)], &[1], None), plan(steps, &[], Some(2)), plan(&[Step::Use(0)], &[], None)]
    };
    // The call raises before the set: the local comes from the entry.
    let before = make(&arena, 2, 1, &handled(&[Step::Call, Step::Set(0)]));
    assert_eq!(live(&before), [vec![0], vec![0], vec![0]]);
    // The call raises after it only.
    let after = make(&arena, 2, 1, &handled(&[Step::Set(0), Step::Call]));
    assert_eq!(live(&after), [vec![], vec![], vec![0]]);
    // Both.
    let both = make(&arena, 2, 1, &handled(&[Step::Set(0), Step::Call, Step::Set(0), Step::Call]));
    assert_eq!(live(&both), [vec![], vec![], vec![0]]);
    // Nothing raises: the handler is not reached, and what it would read is nobody's concern.
    let none = make(&arena, 2, 1, &handled(&[Step::Set(0)]));
    assert_eq!(live(&none), [vec![], vec![], vec![]]);
}

#[test]
fn a_local_set_after_the_raise_is_not_assigned_in_the_handler() {
    let arena = Bump::new();
    let plans = |steps: &[Step]| vec![plan(steps, &[], Some(1)), plan(&[Step::Use(0)], &[], None)];
    let late = make(&arena, 1, 0, &plans(&[Step::Call, Step::Set(0), Step::Call]));
    assert_eq!(unassigned(&late), [(1, 0)]);
    let in_time = make(&arena, 1, 0, &plans(&[Step::Set(0), Step::Call]));
    assert_eq!(unassigned(&in_time), []);
    let parameter = make(&arena, 1, 1, &plans(&[Step::Call, Step::Set(0)]));
    assert_eq!(unassigned(&parameter), []);
}

/// Whether a path from the start of `block` reads `local` before it sets it, by walking them all.
fn is_read_first(plans: &[Plan], block: usize, local: usize) -> bool {
    let mut seen = vec![false; plans.len()];
    let mut pending = vec![block];
    while let Some(block) = pending.pop() {
        if std::mem::replace(&mut seen[block], true) {
            continue;
        }
        let Plan { steps, successors, handler } = &plans[block];
        if steps.iter().any(|step| matches!(step, Step::Use(used) if *used == local)) {
            return true;
        }
        let set = steps.iter().position(|step| matches!(step, Step::Set(set) if *set == local));
        let before = &steps[..set.unwrap_or(steps.len())];
        if before.iter().any(|step| matches!(step, Step::Call)) {
            pending.extend(handler);
        }
        if set.is_none() {
            pending.extend(successors);
        }
    }
    false
}

/// Which blocks can be reached, the entry first.
fn reached(plans: &[Plan]) -> Vec<bool> {
    let mut seen = vec![false; plans.len()];
    let mut pending = vec![0];
    while let Some(block) = pending.pop() {
        if !std::mem::replace(&mut seen[block], true) {
            pending.extend(&plans[block].successors);
            if plans[block].steps.iter().any(|step| matches!(step, Step::Call)) {
                pending.extend(plans[block].handler);
            }
        }
    }
    seen
}

fn random_plans(numbers: &mut Numbers, count: usize, locals: usize) -> Vec<Plan> {
    (0..count)
        .map(|_| Plan {
            steps: (0..numbers.below(6))
                .map(|_| match numbers.below(3) {
                    0 => Step::Use(numbers.below(locals)),
                    1 => Step::Set(numbers.below(locals)),
                    _ => Step::Call,
                })
                .collect(),
            successors: (0..numbers.below(3)).map(|_| numbers.below(count)).collect(),
            handler: (numbers.below(2) == 0).then(|| numbers.below(count)),
        })
        .collect()
}

#[test]
fn liveness_agrees_with_a_walk_along_every_path() {
    let mut numbers = Numbers(11);
    for round in 0..300 {
        // More locals than a word has bits, so that there are several columns.
        let (count, locals) = (1 + numbers.below(8), if round % 3 == 0 { 130 } else { 3 });
        let plans = random_plans(&mut numbers, count, locals);
        let arena = Bump::new();
        let made = make(&arena, locals, 1, &plans);
        let reached = reached(&plans);
        let expected: Vec<Vec<usize>> = (0..count)
            .map(|block| {
                (0..locals).filter(|local| reached[block] && is_read_first(&plans, block, *local)).collect()
            })
            .collect();
        assert_eq!(live(&made), expected, "{plans:?}");
        let is_bad = expected[0].iter().any(|local| *local >= 1);
        assert_eq!(unassigned(&made).is_empty(), !is_bad, "{plans:?}");
        let all_bad = unassigned(&made).iter().all(|(_, local)| expected[0].contains(local));
        assert!(all_bad, "{plans:?}");
    }
}

/// Whether a path from the start of `block` ends without setting `local`, by walking them all.
fn may_end_unset(plans: &[Plan], block: usize, local: usize) -> bool {
    let mut seen = vec![false; plans.len()];
    let mut pending = vec![block];
    while let Some(block) = pending.pop() {
        if std::mem::replace(&mut seen[block], true) {
            continue;
        }
        let Plan { steps, successors, .. } = &plans[block];
        let set = steps.iter().position(|step| matches!(step, Step::Set(set) if *set == local));
        // A call may raise what nothing catches.
        let leaves = steps[..set.unwrap_or(steps.len())].iter().any(|step| matches!(step, Step::Call));
        if leaves || set.is_none() && successors.is_empty() {
            return true;
        }
        if set.is_none() {
            pending.extend(successors);
        }
    }
    false
}

/// Whether a path from the entry to the start of `block` does not set `local`, by walking them all.
fn may_come_unset(plans: &[Plan], block: usize, local: usize) -> bool {
    let mut seen = vec![false; plans.len()];
    let mut pending = vec![0];
    while let Some(block) = pending.pop() {
        if std::mem::replace(&mut seen[block], true) {
            continue;
        }
        let Plan { steps, successors, handler } = &plans[block];
        let set = steps.iter().position(|step| matches!(step, Step::Set(set) if *set == local));
        if steps[..set.unwrap_or(steps.len())].iter().any(|step| matches!(step, Step::Call)) {
            pending.extend(handler);
        }
        if set.is_none() {
            pending.extend(successors);
        }
    }
    seen[block]
}

#[test]
fn what_must_hold_agrees_with_a_walk_along_every_path() {
    let mut numbers = Numbers(29);
    for round in 0..300 {
        let (count, locals) = (1 + numbers.below(8), if round % 3 == 0 { 130 } else { 3 });
        let plans = random_plans(&mut numbers, count, locals);
        let arena = Bump::new();
        let made = make(&arena, locals, 0, &plans);
        let cfg = Cfg::compute(&made.module, &made.method);
        let solve = |direction| {
            let sets = liveness::sets(&made.method);
            let events: Vec<Event> = sets
                .map(|(block, position, local)| Event::of(liveness::fact(local), block, position, true))
                .collect();
            solve(Problem { direction, meet: Meet::All, at_entry: vec![], events }, &cfg, |_| true)
                .expect("it is small")
        };
        let (come, go) = (solve(Direction::Forward), solve(Direction::Backward));
        for block in (0..count).filter(|block| cfg.is_reachable(Block::new(*block))) {
            for local in 0..locals {
                let fact = liveness::fact(Local::new(local));
                let (comes, goes) = (come.holds(Block::new(block), fact), go.holds(Block::new(block), fact));
                assert_eq!(comes, !may_come_unset(&plans, block, local), "b{block} $x{local} of {plans:?}");
                // Around an endless loop everything will have happened, as far as it happens anywhere.
                assert!(goes <= !may_end_unset(&plans, block, local), "b{block} $x{local} of {plans:?}");
                let is_set =
                    |plan: &Plan| plan.steps.iter().any(|step| matches!(step, Step::Set(x) if *x == local));
                if !may_end_unset(&plans, block, local) && !goes {
                    assert!(!is_set_from(&plans, block, &is_set), "b{block} $x{local} of {plans:?}");
                }
            }
        }
    }
}

/// Whether a block that can be reached from `block` without a raise is as asked.
fn is_set_from(plans: &[Plan], block: usize, is: &dyn Fn(&Plan) -> bool) -> bool {
    let mut seen = vec![false; plans.len()];
    let mut pending = vec![block];
    while let Some(block) = pending.pop() {
        if !std::mem::replace(&mut seen[block], true) {
            pending.extend(&plans[block].successors);
        }
    }
    seen.iter().zip(plans).any(|(seen, plan)| *seen && is(plan))
}

#[test]
fn many_locals_in_many_blocks_take_what_they_use() {
    // Each of 20 000 blocks sets and, in the next block, reads a local of its own: dense rows would be 50 MB each way.
    let count = 20_000;
    let plans: Vec<Plan> = (0..count)
        .map(|block| {
            let mut steps = vec![Step::Set(block)];
            if block > 0 {
                steps.push(Step::Use(block - 1));
            }
            plan(&steps, if block + 1 < count { vec![block + 1] } else { vec![] }.as_slice(), None)
        })
        .collect();
    let arena = Bump::new();
    let made = make(&arena, count, 0, &plans);
    let live = live(&made);
    assert!(live[0].is_empty());
    assert!((1..count).all(|block| live[block] == [block - 1]));
    assert_eq!(unassigned(&made), []);
}
