//! A pass of one's own, outside Dagwood's crates, in a strategy of one's own; and machine code of what comes out.
//!
//! ```text
//!   log2(x): popcnt (sub (and x (neg x)) 1)     ⇒     ctz x         the lowest bit that is set, as this frontend writes it
//! ```

use std::borrow::Cow;
use std::error::Error;

use dagwood::il::{
    Builder, Bump, Edits, Folding, Method, MethodId, Module, Node, Opcode, Payload, Type, text,
};
use dagwood::opt::passes::{mark_cold, rebuild};
use dagwood::opt::{
    Changed, Features, Options, Pass, PassCx, Remarks, Request, Row, Strategy, WARM, When, optimize,
};
use dagwood::runtime::{BodyError, CallCx, Context, Jit, Natives, Thread, ThreadOptions, bodies};

/// The pass: a name, a sentence, a function.
const COUNT_ZEROS: Pass =
    Pass { name: "count_zeros", summary: "count trailing zeros by the instruction for it", run };

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let mut edits = Edits::new();
    // Find: walk, and change nothing.
    let found: Vec<(Node, Node)> =
        method.nodes().filter_map(|node| Some((node, counted(method, node)?))).collect();
    cx.spend(method.node_count() as u64);
    for (node, operand) in found {
        // Ask: this numbers the rewrite, and remarks on it if somebody reads remarks.
        if cx.allows(node, || format!("{node} counts the trailing zeros of {operand}")) {
            // Do: a new node, which belongs nowhere until the edits are applied.
            let zeros = method.add_node(Opcode::Ctz, method.ty(node), &[operand], Payload::None);
            edits.replace(node, zeros);
        }
    }
    cx.apply(method, edits)
}

/// The operand `x` of `popcnt (sub (and x (neg x)) 1)`.
fn counted(method: &Method<'_>, node: Node) -> Option<Node> {
    let operands =
        |node: Node, opcode: Opcode| (method.opcode(node) == opcode).then(|| method.operands(node));
    let [below] = *operands(node, Opcode::Popcnt)? else { return None };
    // Folding writes `sub y 1` as `add y -1`.
    let [lowest, minus_one] = *operands(below, Opcode::Add)? else { return None };
    let is_minus_one = method.const_bits(minus_one)? == method.ty(node).mask();
    let [left, right] = *operands(lowest, Opcode::And)? else { return None };
    let negates =
        |negated: Node, of: Node| operands(negated, Opcode::Neg).is_some_and(|operand| *operand == [of]);
    let x = if negates(right, left) { left } else { right };
    (is_minus_one && (negates(right, left) || negates(left, right))).then_some(x)
}

/// A strategy of our own: what `warm` spends, our rows.
static OWN: Strategy = Strategy {
    name: "own",
    why: "for methods of this example",
    work_per_node: 128,
    work_per_cycle: 128,
    rows: Cow::Borrowed(&[
        Row { pass: rebuild::PASS, when: When::Always, why: "our frontend does not fold" },
        Row {
            pass: COUNT_ZEROS,
            when: When::Always,
            why: "after rebuilding, which brings values into one form",
        },
        Row { pass: mark_cold::PASS, when: When::Has(Features::BRANCHES), why: "for the layout of code" },
    ]),
};

/// `log2(x)`, as a frontend builds it that leaves everything to the optimizer.
fn build<'a>(module: &Module, log2: MethodId, arena: &'a Bump) -> Result<Method<'a>, BodyError> {
    let mut b = Builder::new(arena, module, log2, Folding::Off);
    let entry = b.block();
    b.switch_to(entry);
    let (x, one) = (b.get(b.param(0)), b.i64(1));
    let negated = b.op(Opcode::Neg, &[x]);
    let lowest = b.op(Opcode::And, &[x, negated]);
    let below = b.op(Opcode::Sub, &[lowest, one]);
    let count = b.op(Opcode::Popcnt, &[below]);
    b.ret(&[count]);
    Ok(b.finish()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut module = Module::new();
    let log2 = module.declare_method("log2", &[Type::I64], &[Type::I64]);

    // The optimizer alone: IL in, IL out, with what it says of itself.
    let arena = Bump::new();
    let mut method = build(&module, log2, &arena).map_err(|error| error.to_string())?;
    let options = Options { remarks: Remarks::On, ..Options::default() };
    let report = optimize(&Request::new(&module, &OWN, &options), &mut method, &mut ())?;
    let optimized = text::print_method(&module, &method);
    print!("{optimized}{}", report.ledger);
    report.remarks.iter().for_each(|remark| println!("{remark}"));
    assert!(optimized.contains("ctz.i64") && !optimized.contains("popcnt"), "the pass did its work");

    // The same strategy in the compiler.
    let options = dagwood::runtime::Options { strategy: &OWN, ..dagwood::runtime::Options::default() };
    let jit = Jit::new(module.clone(), options)?;
    jit.compile(&[log2], &bodies(|id, arena| build(&module, id, arena)))?;
    let (thread, context, natives) =
        (Thread::new(&ThreadOptions::default())?, Context::new(64)?, Natives::new(&module));
    let cx = CallCx { thread: &thread, context: &context, host: &natives };
    let (result,) = jit.typed::<(i64,), (i64,)>(log2)?.call(cx, (1 << 40,))?;
    println!("log2(1 << 40) = {result}; `{}` would have left it to popcnt", WARM.name);
    assert_eq!(result, 40);
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("the example handles its errors");
}
