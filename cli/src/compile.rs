//! `dagwood compile`: what the compiler makes of a file, at each of its stages.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_codegen::{Compiler, Features, Listing, Target, Verify};
use dagwood_il::{Method, Module, text};
use dagwood_opt::NONE;

use crate::args::{self, Matches, strategy};
use crate::listing::{self, Bytes};
use crate::load::load;
use crate::methods::{Methods, Polls};
use crate::opt;
use crate::report::{Failure, Output};

/// A stage to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The IL after the passes.
    Il,
    /// What Cranelift is given.
    Clif,
    /// Machine code.
    Asm,
}

impl Stage {
    fn read(text: &str) -> Result<Stage, &'static str> {
        match text {
            "il" => Ok(Stage::Il),
            "clif" => Ok(Stage::Clif),
            "asm" => Ok(Stage::Asm),
            _ => Err("`il`, `clif` or `asm`"),
        }
    }
}

/// Runs the command.
pub(crate) fn run(matches: &Matches) -> Result<(), Failure> {
    let Some(stage) = matches.read("--emit", Stage::read)? else {
        return Err(matches.usage("--emit says what to print: `il`, `clif` or `asm`"));
    };
    let bytes = if matches.has("--bytes") { Bytes::Shown } else { Bytes::Hidden };
    if bytes == Bytes::Shown && stage != Stage::Asm {
        return Err(matches.usage("--bytes goes with --emit asm"));
    }
    let strategy = matches.read("--strategy", strategy)?.unwrap_or(NONE);
    let polls = if matches.has("--polls") { Polls::On } else { Polls::Off };
    let wanted = matches.text("--function")?;
    let mut loaded = load(&matches.operands[0])?;
    let name = loaded.name.clone();
    let arena = Bump::new();
    let mut methods = Methods::open(&mut loaded, &arena, polls)?;
    let selected = methods.select(wanted)?;
    let target =
        Target::new(Features::Host, Verify::Off).map_err(|error| Failure::Failed(error.to_string()))?;
    let mut compiler = Compiler::new(Arc::new(target));
    compiler.set_listing(Listing::On);
    // Opened only now, so that a mistake above leaves the file as it was.
    let mut out = Output::chosen(matches.value("--output"))?;
    if stage == Stage::Il && wanted.is_none() {
        out.put(&methods.declarations())?;
    }
    let comments: Vec<String> = selected.iter().map(|id| methods.comment(*id)).collect();
    let mut comments = comments.iter();
    let mut options = dagwood_opt::Options {
        rewrite_limit: matches.read("--opt-limit", args::number)?,
        ..dagwood_opt::Options::default()
    };
    methods.each(&selected, |known, method| {
        let module = known.module;
        opt::apply(known, strategy, &mut options, method, &mut ())
            .map_err(|fault| Failure::of(&name, fault))?;
        let text =
            emit(&mut compiler, stage, bytes, module, method).map_err(|error| Failure::of(&name, error))?;
        out.put(comments.next().map_or("", String::as_str))?;
        out.put(&text)?;
        out.put("\n")
    })?;
    out.finish()
}

/// A method at a stage.
fn emit(
    compiler: &mut Compiler,
    stage: Stage,
    bytes: Bytes,
    module: &Module,
    method: &Method<'_>,
) -> Result<String, dagwood_codegen::CompileError> {
    match stage {
        Stage::Il => Ok(text::print_method(module, method)),
        Stage::Clif => {
            Ok(format!("; method @{}\n{}", module.methods[method.id()].name, compiler.clif(module, method)?))
        }
        Stage::Asm => Ok(listing::print(module, method, &compiler.compile(module, method)?, bytes)),
    }
}
