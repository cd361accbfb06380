//! How the time of compiling grows with the size of a method, from 10² to 10⁵ nodes.
//!
//! A method of each size is the same piece over and over: a loop over memory with a check, a branch and sums that the
//! next piece uses. The exponent is that of the line that fits the logarithms best; times are minima of several runs.
//! The curves are drawn into `target/bench/growth.svg`; `docs/growth.svg` is a copy of one.

use std::time::Duration;

use bumpalo::Bump;
use dagwood_il::{
    Access, Builder, Folding, Method, MethodId, Module as Declarations, Node, Opcode, Place, SymbolKind, Type,
};
use dagwood_opt::{Options as Optimization, Request, WARM, optimize};

use super::cost::compiler;
use super::plot::{Curve, plot};
use crate::Options;
use crate::engine::{Failure, Result, timed};
use crate::kernels::output_directory;
use crate::report::{Report, Table, Target, progress};

const SIZES: [usize; 7] = [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000];
const RUNS: usize = 3;

/// The part of the bench.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let sizes = if options.quick { &SIZES[..6] } else { &SIZES[..] };
    let mut table = Table::default();
    table.lines.push(["growth", "nodes", "optimizer ns/node", "codegen ns/node"].map(String::from).to_vec());
    let (mut optimizing, mut generating) = (Vec::new(), Vec::new());
    for size in sizes {
        progress(&format!("a method of {size} nodes"));
        let (nodes, times) = measure(*size)?;
        let per_node = |time: Duration| time.as_secs_f64() * 1e9 / nodes as f64;
        let cells = times.map(|time| format!("{:.0}", per_node(time)));
        table.lines.push([size.to_string(), nodes.to_string()].into_iter().chain(cells).collect());
        optimizing.push((nodes as f64, times[0].as_secs_f64()));
        generating.push((nodes as f64, times[1].as_secs_f64()));
        report.detail(format!("optimizer, {size} nodes"), per_node(times[0]), "ns/node");
        report.detail(format!("codegen, {size} nodes"), per_node(times[1]), "ns/node");
    }
    progress("");
    report.sections.push(table.to_string());
    draw(&optimizing, &generating)?;
    let at_most = Some(Target::AtMost(1.1));
    report.conclude("exponent of the optimizer's time in nodes".into(), exponent(&optimizing), "", at_most);
    report.conclude("exponent of codegen's time in nodes".into(), exponent(&generating), "", None);
    Ok(())
}

/// Draws both curves beside what would be in proportion.
fn draw(optimizing: &[(f64, f64)], generating: &[(f64, f64)]) -> Result<()> {
    let title = "Time of compiling one method at warm; dashed: in proportion to its size";
    let curves = [
        Curve { name: "optimizer", points: optimizing },
        Curve { name: "code generation", points: generating },
    ];
    let path = output_directory()?.join("growth.svg");
    std::fs::write(&path, plot(title, "nodes of the method", &curves))
        .map_err(|error| Failure::because(path.display(), error))
}

/// The nodes of a method of about this size, and the least times of optimizing it and of making machine code of it.
fn measure(size: usize) -> Result<(usize, [Duration; 2])> {
    let mut module = Declarations::new();
    let id = module.declare_method("grown", &[Type::I64, Type::I64], &[Type::I64]);
    let memory = Place::Symbol(module.declare_symbol("memory", SymbolKind::Region));
    let mut compiler = compiler()?;
    let options = Optimization::default();
    let mut best = [Duration::MAX; 2];
    let mut nodes = 0;
    for _ in 0..RUNS {
        let arena = Bump::new();
        let mut method = build(&arena, &module, id, memory, size)?;
        nodes = method.node_count();
        let request = Request::new(&module, WARM, &options);
        let (ran, optimizing) = timed(|| optimize(&request, &mut method, &mut ()));
        ran.map_err(|fault| Failure::because("a grown method", fault))?;
        let (code, generating) = timed(|| compiler.compile(&module, &method).map(drop));
        code.map_err(|error| Failure::because("a grown method", error))?;
        best = [best[0].min(optimizing), best[1].min(generating)];
    }
    Ok((nodes, best))
}

fn build<'a>(
    arena: &'a Bump,
    module: &Declarations,
    id: MethodId,
    memory: Place,
    size: usize,
) -> Result<Method<'a>> {
    let mut b = Builder::new(arena, module, id, Folding::On);
    let (index, sum) = (b.local("index", Type::I64), b.local("sum", Type::I64));
    let entry = b.block();
    b.switch_to(entry);
    let zero = b.i64(0);
    b.set(sum, zero);
    while b.method().node_count() + 8 < size {
        piece(&mut b, memory, index, sum);
    }
    let value = b.get(sum);
    b.ret(&[value]);
    b.finish().map_err(|error| Failure::because("a grown method", error))
}

/// A loop whose body has a check, a load, a branch and a store.
fn piece(b: &mut Builder<'_, '_>, memory: Place, index: dagwood_il::Local, sum: dagwood_il::Local) {
    let [header, join, after] = [(); 3].map(|()| b.block());
    let zero = b.i64(0);
    b.set(index, zero);
    b.goto(header);

    b.switch_to(header);
    let (i, total) = (b.get(index), b.get(sum));
    let length = b.get(b.param(0));
    let checked = b.checked(Opcode::BoundsCheck, Type::I64, &[i, length], 0);
    let context = b.context();
    let access = Access { place: memory, offset: 16, scale: 8 };
    let value = b.load(Type::I64, access, context, Some(checked));
    let next = b.op(Opcode::Add, &[total, value]);
    b.set(sum, next);
    let limit = b.get(b.param(1));
    let is_small = b.op(Opcode::SLt, &[value, limit]);
    let side = b.extension(header);
    b.branch(is_small, side.unwrap_or(join), join);
    if let Some(side) = side {
        b.switch_to(side);
        let doubled: Node = b.op(Opcode::Add, &[next, next]);
        b.set(sum, doubled);
        b.store(access, doubled, context, Some(checked));
        b.goto(join);
    }

    b.switch_to(join);
    let i = b.get(index);
    let one = b.i64(1);
    let following = b.op(Opcode::Add, &[i, one]);
    b.set(index, following);
    let limit = b.get(b.param(1));
    let goes_on = b.op(Opcode::SLt, &[following, limit]);
    b.branch(goes_on, header, after);
    b.switch_to(after);
}

/// The slope of the line that fits the logarithms of sizes and times best.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let logs: Vec<(f64, f64)> = points.iter().map(|(size, time)| (size.ln(), time.ln())).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = logs.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = logs.iter().map(|point| (point.0 - x) * (point.0 - x)).sum();
    covariance / variance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_of_a_power_is_its_own() {
        let points: Vec<(f64, f64)> =
            [10.0_f64, 100.0, 1e4].map(|size| (size, 3.0 * size.powf(1.25))).to_vec();
        assert!((exponent(&points) - 1.25).abs() < 1e-9);
    }

    #[test]
    fn a_method_is_as_large_as_asked() {
        let mut module = Declarations::new();
        let id = module.declare_method("grown", &[Type::I64, Type::I64], &[Type::I64]);
        let memory = Place::Symbol(module.declare_symbol("memory", SymbolKind::Region));
        let arena = Bump::new();
        let method = build(&arena, &module, id, memory, 1000).expect("well-formed");
        assert!((1000..1100).contains(&method.node_count()), "{}", method.node_count());
        dagwood_il::verify(&module, &method).expect("well-formed");
    }
}
