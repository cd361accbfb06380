//! Facts against what the interpreter computes: every fact that is known of an operand, and every bound, becomes a comparison that the
//! program makes where it is known; and what is said to be impossible must not happen.
//!
//! ```text
//!   %i in 3..=9 at a root      ──►      call_native @observe (uge %i, 3) ; call_native @observe (ule %i, 9) ; the root
//! ```

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bumpalo::Bump;
use dagwood_fuzz::{MEMORY_BYTES, Program, bytes_of_seed, mix, seeds};
use dagwood_il::entity::Entity;
use dagwood_il::eval::Value;
use dagwood_il::interp::{Interpreter, Limits, Program as Bodies, Raised, Regions, Values};
use dagwood_il::verify::verify;
use dagwood_il::{
    Block, CallEffects, Cfg, Dominators, Edits, Folding, KindSet, Liveness, Loops, MemorySet, Method,
    MethodId, Module, NativeId, Node, Opcode, Payload, Point, SourcePos, SymbolKind, Type,
};
use dagwood_opt::analysis::facts::{Bound, Fact, Facts, Known, Reading, Visitor};

/// Roots that an interpretation may execute.
const FUEL: u64 = 500_000;
/// How many bounds are looked at for one root.
const MAX_BOUNDS: usize = 3;

/// What is known at a point.
struct Claims {
    point: Point,
    facts: Vec<(Node, Fact)>,
    bounds: Vec<Bound>,
}

#[derive(Default)]
struct Collector {
    claims: Vec<Claims>,
    walked: BTreeSet<Block>,
}

impl Visitor for Collector {
    fn block(&mut self, _: &mut Known<'_, '_>, block: Block) {
        self.walked.insert(block);
    }

    fn root(&mut self, known: &mut Known<'_, '_>, block: Block, position: u32, root: Node) {
        let method = known.method();
        let operands = method.value_operands(root).iter().filter(|node| method.ty(**node).is_int());
        let facts = operands.map(|node| (*node, *known.fact(*node))).filter(|(_, fact)| !fact.is_any());
        let facts = facts.filter(|(node, _)| method.opcode(*node) != Opcode::Const).collect();
        let bounds: Vec<Bound> = known.bounds().copied().collect();
        let newest = bounds.into_iter().rev().take(MAX_BOUNDS);
        let is_shown = |reading: Reading| {
            reading.value() < method.node_count() && method.ty(Node::new(reading.value())).bits() < 64
        };
        let bounds = newest.filter(|bound| is_shown(bound.less) && is_shown(bound.more)).collect();
        self.claims.push(Claims { point: Point { block, position }, facts, bounds });
    }
}

/// Makes the comparisons that a method is to make.
struct Maker<'m, 'a> {
    method: &'m mut Method<'a>,
    edits: Edits,
    observe: NativeId,
}

impl Maker<'_, '_> {
    fn constant(&mut self, ty: Type, bits: u64) -> Node {
        self.method.add_node(Opcode::Const, ty, &[], Payload::Const(bits & ty.mask()))
    }

    fn observe(&mut self, point: Point, holds: Node) {
        let at = u64::from(point.position) | (point.block.index() as u64) << 16;
        let at = self.constant(Type::I32, at);
        let call =
            self.method.add_node(Opcode::CallNative, Type::Void, &[holds, at], Payload::Native(self.observe));
        self.edits.insert(point, call, SourcePos::NONE);
    }

    fn compare(&mut self, point: Point, opcode: Opcode, left: Node, right: Node) {
        let holds = self.method.add_node(opcode, Type::I32, &[left, right], Payload::None);
        self.observe(point, holds);
    }

    fn claim(&mut self, claims: &Claims) {
        for (node, fact) in &claims.facts {
            let ty = fact.ty();
            let limits = [
                (Opcode::UGe, fact.umin()),
                (Opcode::ULe, fact.umax()),
                (Opcode::SGe, fact.smin() as u64),
                (Opcode::SLe, fact.smax() as u64),
            ];
            for (opcode, bits) in limits {
                let limit = self.constant(ty, bits);
                self.compare(claims.point, opcode, *node, limit);
            }
            for (mask, expected) in [(fact.zeros(), 0), (fact.ones(), fact.ones())] {
                let (mask, expected) = (self.constant(ty, mask), self.constant(ty, expected));
                let kept = self.method.add_node(Opcode::And, ty, &[*node, mask], Payload::None);
                self.compare(claims.point, Opcode::Eq, kept, expected);
            }
        }
        for bound in &claims.bounds {
            let Ok(gap) = i64::try_from(bound.gap) else { continue };
            let [less, more] = [bound.less, bound.more].map(|reading| {
                let opcode = if reading.is_signed() { Opcode::SExt } else { Opcode::UExt };
                self.method.add_node(opcode, Type::I64, &[Node::new(reading.value())], Payload::None)
            });
            let gap = self.constant(Type::I64, gap as u64);
            let sum = self.method.add_node(Opcode::Add, Type::I64, &[less, gap], Payload::None);
            self.compare(claims.point, Opcode::SLe, sum, more);
        }
    }
}

/// Has the method compare what is known of it with what is.
fn instrument(module: &Module, method: &mut Method<'_>, observe: NativeId, is_global: bool) {
    let cfg = Cfg::compute(module, method);
    let facts = if is_global {
        let liveness = Liveness::compute(method, &cfg).expect("few locals");
        let dominators = Dominators::compute(&cfg);
        let loops = Loops::compute(&cfg, &dominators);
        Facts::global(module, method, &cfg, &liveness, &dominators, &loops)
    } else {
        Facts::local(method, &cfg)
    };
    let mut collector = Collector::default();
    let mut known = facts.known(module, method);
    for head in facts.order() {
        facts.walk(&mut known, *head, &mut collector);
    }
    let mut maker = Maker { method, edits: Edits::new(), observe };
    for claims in &collector.claims {
        maker.claim(claims);
    }
    for block in cfg.order().iter().filter(|block| !collector.walked.contains(block)) {
        let never = maker.constant(Type::I32, 0);
        maker.observe(Point { block: *block, position: 0 }, never);
    }
    let edits = maker.edits;
    edits.apply(module, method);
}

/// Runs a program whose methods compare what is known of them. Returns how many comparisons there were.
fn check(seed: u64, folding: Folding, is_global: bool) -> usize {
    let bytes = bytes_of_seed(seed, 64 + (seed as usize * 37) % 1200);
    let mut program = Program::generate(&bytes);
    let observe = program.module.declare_native("observe", &[Type::I32, Type::I32], &[]);
    // What has no effect at all is left out of a copy.
    let seen = program.module.declare_symbol("seen", SymbolKind::Region);
    program.module.natives[observe].effects = CallEffects {
        reads: MemorySet::None,
        writes: MemorySet::Symbols(vec![seen]),
        raises: KindSet::NONE,
        yields: false,
    };
    let arena = Bump::new();
    let build = |id: &MethodId| {
        let mut method = program.build(*id, &arena, folding).expect("the generator makes no mistake");
        instrument(&program.module, &mut method, observe, is_global);
        if let Err(errors) = verify(&program.module, &method) {
            panic!("seed {seed}, {id}: {errors:?}");
        }
        &*arena.alloc(method)
    };
    let methods: Vec<&Method<'_>> = program.methods.iter().map(build).collect();
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
        let at = args[1].low();
        let place = format!(
            "{folding:?}, {}: b{}, root {}",
            if is_global { "global" } else { "local" },
            at >> 16,
            at & 0xffff
        );
        assert!(args[0].low() == 1, "seed {seed}, {place} of some method: what is known is not so");
        count.set(count.get() + 1);
        Ok(Values::new())
    });
    let lookup = |id: MethodId| methods.iter().copied().find(|method| method.id() == id);
    let params = &program.module.method_signature(program.entry()).params;
    let args: Vec<Value> =
        (1..).zip(params).map(|(n, ty)| Value::from_bits(*ty, (seed * n) & ty.mask())).collect();
    let bodies = Bodies { module: &program.module, bodies: &lookup };
    let limits = Limits { fuel: FUEL, ..Limits::default() };
    // Whether it returns, raises or takes too long: what was compared was so.
    let _ = Interpreter::new(bodies).run(&mut host, program.entry(), 0, &args, limits);
    made.get()
}

#[test]
fn what_is_known_is_so() {
    let mut made = 0;
    for seed in seeds(200) {
        for is_global in [false, true] {
            made += check(seed, Folding::On, is_global) + check(seed, Folding::Off, is_global);
        }
    }
    println!("{made} comparisons");
    assert!(made > 10_000, "{made} comparisons are few");
}
