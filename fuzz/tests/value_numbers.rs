//! Value numbers against what the interpreter computes: two nodes of one number, the one dominating the other, must be equal whenever the
//! second is computed. And reaching definitions, factored at joins, against one bit for each definition.
//!
//! ```text
//!   %1 = …; use %1 ; set $t, %1        …        call_native @observe (eq (entry $t), %9) ; use %9
//! ```

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use bumpalo::Bump;
use dagwood_fuzz::{MEMORY_BYTES, Program, bytes_of_seed, mix, seeds};
use dagwood_il::dataflow::{Direction, Event, Meet, Problem, heads_of_uses, solve};
use dagwood_il::entity::Entity;
use dagwood_il::eval::Value;
use dagwood_il::interp::{Interpreter, Limits, Program as Bodies, Raised, Regions, Values};
use dagwood_il::verify::verify;
use dagwood_il::{
    Block, CallEffects, Cfg, Dominators, Folding, KindSet, Liveness, Local, MemorySet, Method, MethodId,
    Module, NativeId, Node, Opcode, Payload, Root, SourcePos, Type,
};
use dagwood_opt::analysis::frontiers::{Ends, Frontiers, Visit, dominator_walk};
use dagwood_opt::analysis::memory::Memory;
use dagwood_opt::analysis::reaching::{Definition, Reaching};
use dagwood_opt::analysis::uses::Uses;
use dagwood_opt::analysis::value_numbers::{Number, ValueNumbers};

/// Roots that an interpretation may execute.
const FUEL: u64 = 500_000;

struct Analyses {
    cfg: Cfg,
    dominators: Dominators,
    reaching: Reaching,
    numbers: ValueNumbers,
}

fn analyses(module: &Module, method: &Method<'_>) -> Analyses {
    let cfg = Cfg::compute(module, method);
    let dominators = Dominators::compute(&cfg);
    let frontiers = Frontiers::compute(&cfg, &dominators).expect("generated methods nest little");
    let liveness = Liveness::compute(method, &cfg).expect("generated methods are small");
    let uses = Uses::compute(method);
    let reaching = Reaching::compute(method, &cfg, &dominators, &frontiers, &uses, &liveness);
    let memory = Memory::compute(module, method, &cfg, &dominators, &frontiers);
    let numbers = ValueNumbers::compute(method, &cfg, &uses, &reaching, &memory);
    Analyses { cfg, dominators, reaching, numbers }
}

/// A comparison of two values that should be equal.
struct Comparison {
    leader: (Node, Block, usize),
    other: (Node, Block, usize),
}

/// For each operand of a root, an operand of a root that dominates it and has its number.
fn comparisons(method: &Method<'_>, analyses: &Analyses) -> Vec<Comparison> {
    let mut known: HashMap<Number, Vec<(Node, Block, usize)>> = HashMap::new();
    let mut undo: Vec<Vec<Number>> = Vec::new();
    let mut found = Vec::new();
    let ends = Ends::compute(&analyses.cfg, &analyses.dominators);
    let mut path: Vec<Block> = Vec::new();
    for visit in dominator_walk(&analyses.cfg, &analyses.dominators) {
        let Visit::Enter(block) = visit else {
            path.pop();
            for number in undo.pop().expect("each block is left once") {
                known.get_mut(&number).expect("it was noted").pop();
            }
            continue;
        };
        path.push(block);
        let has_happened = |leader: &&(Node, Block, usize)| {
            let depth = path.iter().position(|block| *block == leader.1).expect("leaders dominate");
            path.get(depth + 1).is_none_or(|below| ends.has_happened(leader.1, leader.2 as u32, *below))
        };
        let mut noted = Vec::new();
        for (position, root) in method.roots(block).iter().enumerate() {
            for node in method.value_operands(root.node) {
                let ty = method.ty(*node);
                let Some(number) =
                    analyses.numbers.number(*node).filter(|_| ty != Type::Void && !ty.is_float())
                else {
                    continue;
                };
                let leaders = known.entry(number).or_default();
                match leaders.iter().rev().find(has_happened) {
                    Some((leader, ..)) if leader == node => continue,
                    Some(leader) => {
                        found.push(Comparison { leader: *leader, other: (*node, block, position) })
                    }
                    None => {}
                }
                leaders.push((*node, block, position));
                noted.push(number);
            }
        }
        undo.push(noted);
    }
    found
}

/// Has the method compare what should be equal.
fn instrument(method: &mut Method<'_>, observe: NativeId, comparisons: &[Comparison]) {
    let mut inserted: HashMap<(Block, usize), Vec<Node>> = HashMap::new();
    for (index, Comparison { leader, other }) in comparisons.iter().enumerate() {
        let ty = method.ty(leader.0);
        let local = method.add_local(&format!("leader{index}"), ty);
        let set = method.add_node(Opcode::Set, Type::Void, &[leader.0], Payload::Local(local));
        inserted.entry((leader.1, leader.2)).or_default().push(set);
        let kept = match method.head(leader.1) == method.head(other.1) {
            true => leader.0,
            false => method.add_node(Opcode::Entry, ty, &[], Payload::Local(local)),
        };
        let eq = method.add_node(Opcode::Eq, Type::I32, &[kept, other.0], Payload::None);
        let id = method.add_node(Opcode::Const, Type::I32, &[], Payload::Const(index as u64));
        let call = method.add_node(Opcode::CallNative, Type::Void, &[eq, id], Payload::Native(observe));
        inserted.entry((other.1, other.2)).or_default().push(call);
    }
    for block in method.blocks() {
        let mut roots = Vec::new();
        for (position, root) in method.roots(block).iter().enumerate() {
            for node in inserted.remove(&(block, position)).unwrap_or_default() {
                roots.push(Root { node, position: SourcePos::NONE });
            }
            roots.push(*root);
        }
        method.set_roots(block, &roots);
    }
}

/// Runs a program whose methods compare what has one number. Returns how many comparisons there were.
fn check(seed: u64, folding: Folding) -> usize {
    let bytes = bytes_of_seed(seed, 64 + (seed as usize * 37) % 1200);
    let mut program = Program::generate(&bytes);
    let observe = program.module.declare_native("observe", &[Type::I32, Type::I32], &[]);
    program.module.natives[observe].effects =
        CallEffects { reads: MemorySet::None, writes: MemorySet::None, raises: KindSet::NONE, yields: false };
    let arena = Bump::new();
    let methods: Vec<&Method<'_>> = program
        .methods
        .iter()
        .map(|id| {
            let mut method = program.build(*id, &arena, folding).expect("the generator makes no mistake");
            let found = comparisons(&method, &analyses(&program.module, &method));
            instrument(&mut method, observe, &found);
            if let Err(errors) = verify(&program.module, &method) {
                panic!("seed {seed}, {id}: {errors:?}");
            }
            &*arena.alloc(method)
        })
        .collect();
    let mut host = Regions::new(&program.module);
    let memory = host.add(MEMORY_BYTES as usize);
    host.bind(program.memory, memory);
    host.native(program.native, |_, _, args| match mix(args[0].low() as u32, args[1].low()) {
        Ok(mixed) => Ok(Values::from_slice(&[Value::i64(mixed as i64)])),
        Err(_) => Err(Raised::guest(0)),
    });
    let made = Rc::new(Cell::new(0));
    let count = made.clone();
    host.native(observe, move |_, _, args| {
        assert!(args[0].low() == 1, "seed {seed}: comparison {} of some method fails", args[1].low());
        count.set(count.get() + 1);
        Ok(Values::new())
    });
    let lookup = |id: MethodId| methods.iter().copied().find(|method| method.id() == id);
    let params = &program.module.method_signature(program.entry()).params;
    let args: Vec<Value> =
        (1..).zip(params).map(|(n, ty)| Value::from_bits(*ty, (seed * n) & ty.mask())).collect();
    let bodies = Bodies { module: &program.module, bodies: &lookup };
    let limits = Limits { fuel: FUEL, ..Limits::default() };
    // Whether it returns, raises or takes too long: what was compared was equal.
    let _ = Interpreter::new(bodies).run(&mut host, program.entry(), 0, &args, limits);
    made.get()
}

#[test]
fn values_of_one_number_are_equal_whenever_the_second_is_computed() {
    let mut made = 0;
    for seed in seeds(300) {
        made += check(seed, Folding::On) + check(seed, Folding::Off);
    }
    println!("{made} comparisons");
    assert!(made > 1000, "{made} comparisons are few");
}

/// The `set`s behind a definition.
fn sets_behind(reaching: &Reaching, definition: Definition) -> BTreeSet<Definition> {
    let (mut seen, mut pending) = (BTreeSet::from([definition]), vec![definition]);
    while let Some(definition) = pending.pop() {
        if let Definition::Merge(merge) = definition {
            pending.extend(reaching.args(merge).iter().filter(|arg| seen.insert(**arg)));
        }
    }
    seen.into_iter().filter(|definition| matches!(definition, Definition::Set(_))).collect()
}

/// The `set`s that reach each `entry`, by one fact for each of them.
fn sets_by_bits(method: &Method<'_>, cfg: &Cfg) -> HashMap<Node, BTreeSet<Definition>> {
    let mut sets: Vec<(Block, u32, Local, Node)> = Vec::new();
    for block in method.blocks() {
        for (after, root) in (1..).zip(method.roots(block)) {
            if let (Opcode::Set, Payload::Local(local)) =
                (method.opcode(root.node), method.payload(root.node))
            {
                sets.push((block, after, local, root.node));
            }
        }
    }
    let mut events = Vec::new();
    for (block, position, local, node) in &sets {
        for (fact, (.., other, own)) in (0..).zip(&sets) {
            if other == local {
                events.push(Event::of(fact, *block, *position, own == node));
            }
        }
    }
    let problem = Problem { direction: Direction::Forward, meet: Meet::Any, at_entry: Vec::new(), events };
    let facts = solve(problem, cfg, |_| true).expect("generated methods are small");
    let mut found = HashMap::new();
    for (node, head) in heads_of_uses(method).iter() {
        if let (Opcode::Entry, Payload::Local(local), Some(head)) =
            (method.opcode(node), method.payload(node), *head)
            && cfg.is_reachable(head)
        {
            let reach = facts.at(head).map(|fact| &sets[fact as usize]).filter(|(.., of, _)| *of == local);
            found.insert(node, reach.map(|(.., set)| Definition::Set(*set)).collect());
        }
    }
    found
}

#[test]
fn definitions_factored_at_joins_are_those_that_reach() {
    let mut reads = 0;
    for seed in 0..300 {
        let program = Program::generate(&bytes_of_seed(seed, 64 + (seed as usize * 37) % 1200));
        let arena = Bump::new();
        for id in &program.methods {
            let method = program.build(*id, &arena, Folding::On).expect("the generator makes no mistake");
            let analyses = analyses(&program.module, &method);
            for (entry, expected) in sets_by_bits(&method, &analyses.cfg) {
                let definition = analyses.reaching.read(entry).expect("what is read is assigned");
                let found = sets_behind(&analyses.reaching, definition);
                assert_eq!(found, expected, "seed {seed}, {id}, {entry}");
                reads += 1;
                if let Definition::Merge(merge) = definition {
                    assert!(analyses.reaching.merge_count() > merge.index());
                }
            }
        }
    }
    assert!(reads > 1000, "{reads} reads are few");
}
