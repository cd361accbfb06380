//! `dagwood-bench il-size`: what a node of the IL costs in memory.
//!
//! Every method of every program is lowered into an arena of its own, as a compilation does it; counted is what the
//! arena handed out, operands, roots, blocks and locals included, divided by the number of nodes. Small methods pay
//! for segments that they do not fill, so that the figure of the whole is taken over all methods together.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_wasm::lower::Program as Lowered;
use dagwood_wasm::{Lowering, Module, Options as LoweringOptions};

use crate::Options;
use crate::engine::{Failure, Program, Result};
use crate::programs::selected;
use crate::report::{Report, Table, Target};

/// What the methods of a program take.
#[derive(Clone, Copy, Default)]
struct Size {
    methods: usize,
    nodes: usize,
    bytes: usize,
}

impl Size {
    fn bytes_per_node(self) -> f64 {
        self.bytes as f64 / self.nodes as f64
    }

    fn add(&mut self, other: Size) {
        self.methods += other.methods;
        self.nodes += other.nodes;
        self.bytes += other.bytes;
    }
}

/// The bench.
pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::default();
    let programs = selected(options, &[], &mut report)?;
    let mut table = Table::default();
    table.lines.push(["IL size", "methods", "nodes", "bytes a node"].map(String::from).to_vec());
    let mut total = Size::default();
    for program in &programs {
        let size = measure(program)?;
        total.add(size);
        table.lines.push(line(&program.name, size));
        report.detail(format!("IL size, {}", program.name), size.bytes_per_node(), "bytes/node");
    }
    table.lines.push(line("all", total));
    report.sections.push(table.to_string());
    report.conclude("IL size, all".into(), total.bytes_per_node(), "bytes/node", Some(Target::AtMost(40.0)));
    Ok(report)
}

fn line(name: &str, size: Size) -> Vec<String> {
    let bytes = format!("{:.1}", size.bytes_per_node());
    vec![name.to_owned(), size.methods.to_string(), size.nodes.to_string(), bytes]
}

fn measure(program: &Program) -> Result<Size> {
    let failed = |error| Failure::because(&program.name, error);
    let module = Arc::new(Module::parse(program.code.as_slice()).map_err(failed)?);
    let lowering = Lowering::new(module, LoweringOptions::default(), &mut Lowered::new());
    let mut size = Size::default();
    for method in lowering.methods() {
        let mut arena = Bump::new();
        let nodes = lowering.lower(method, &arena).map_err(failed)?.node_count();
        let bytes = arena.iter_allocated_chunks().map(<[_]>::len).sum();
        size.add(Size { methods: 1, nodes, bytes });
    }
    Ok(size)
}
