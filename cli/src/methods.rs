//! The IL of a file, whether it was lowered from WebAssembly or written as text: one method at a time.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::world::ContentKey;
use dagwood_il::{Folding, Method, MethodId, Module, World, text};
use dagwood_opt::{Callees, TextCallees, closed_world};
use dagwood_wasm::lower::{MethodKind, Program};
use dagwood_wasm::{ExportKind, Lowering, Options};

use crate::args::similar;
use crate::dag::Dag;
use crate::load::{Loaded, Source};
use crate::report::Failure;
use crate::wasm;

/// The methods of a file that have bodies.
pub(crate) struct Methods<'a> {
    name: &'a str,
    kind: Kind<'a>,
    /// What stands for the file's content where bodies are told apart.
    content: ContentKey,
}

/// What is known where a method is visited. The file is all there is of the program.
pub(crate) struct Known<'k> {
    /// The declarations.
    pub(crate) module: &'k Module,
    /// What may be asked of the program.
    pub(crate) world: &'k dyn World,
    /// The bodies of callees.
    pub(crate) callees: &'k dyn Callees,
}

/// The functions of a module, lowered again for whoever asks.
struct Lowered<'l>(&'l Lowering);

impl Callees for Lowered<'_> {
    fn body<'b>(&self, method: MethodId, arena: &'b Bump) -> Option<Method<'b>> {
        self.0.lower(method, arena).ok()
    }

    fn least_size(&self, method: MethodId) -> Option<u64> {
        self.0.least_size(method)
    }
}

enum Kind<'a> {
    Wasm(Box<Lowering>),
    Il(Box<Dag<'a>>),
}

/// Whether WebAssembly is lowered with polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polls {
    /// It is.
    On,
    /// It is not.
    Off,
}

impl<'a> Methods<'a> {
    /// The methods of a file. Text of the IL is verified.
    pub(crate) fn open(
        loaded: &'a mut Loaded,
        arena: &'a Bump,
        polls: Polls,
    ) -> Result<Methods<'a>, Failure> {
        let Loaded { name, source } = loaded;
        let content = match &*source {
            Source::Wasm(bytes) => ContentKey::of(bytes),
            Source::Il(text) => ContentKey::of(text.as_bytes()),
        };
        let kind = match source {
            Source::Wasm(bytes) => {
                let module = wasm::parse(name, std::mem::take(bytes))?;
                let options = Options { polls: polls == Polls::On, folding: Folding::On };
                Kind::Wasm(Box::new(Lowering::new(Arc::new(module), options, &mut Program::new())))
            }
            Source::Il(text) => Kind::Il(Box::new(Dag::read(name, text, arena)?)),
        };
        Ok(Methods { name, kind, content })
    }

    /// The declarations.
    pub(crate) fn module(&self) -> &Module {
        match &self.kind {
            Kind::Wasm(lowering) => lowering.declarations(),
            Kind::Il(dag) => dag.module(),
        }
    }

    /// Whether the file is IL, of which [`Methods::canonical`] is the whole.
    pub(crate) fn is_il(&self) -> bool {
        matches!(self.kind, Kind::Il(_))
    }

    /// The declarations without those of the methods, as text; the methods' bodies follow it.
    pub(crate) fn declarations(&self) -> String {
        match &self.kind {
            Kind::Wasm(lowering) => {
                let mut module = Module::clone(lowering.declarations());
                module.methods = EntityVec::default();
                let mut out = text::print_module(&module, &[]);
                out.push('\n');
                out
            }
            Kind::Il(_) => String::new(),
        }
    }

    /// The whole file as the printer writes it; none if its methods are to be printed one by one.
    pub(crate) fn canonical(&self) -> Option<String> {
        match &self.kind {
            Kind::Wasm(_) => None,
            Kind::Il(dag) => {
                let bodies: Vec<&Method<'_>> = dag.source.bodies.iter().map(|body| &body.method).collect();
                Some(text::print_module(dag.module(), &bodies))
            }
        }
    }

    /// A comment above a method, where there is something to say.
    pub(crate) fn comment(&self, id: MethodId) -> String {
        let Kind::Wasm(lowering) = &self.kind else { return String::new() };
        match lowering.kind(id) {
            Some(MethodKind::Function(function)) => {
                let module = lowering.module();
                let name = module.function_name(function);
                let exports = module.exports().iter();
                let exports =
                    exports.filter(|export| export.kind == ExportKind::Func && export.index == function);
                let exports: String =
                    exports.map(|export| format!(", exported as {:?}", export.name)).collect();
                format!("; function {function}, {name:?}{exports}\n")
            }
            Some(MethodKind::Host(_)) => "; the way to functions of the host\n".into(),
            None => String::new(),
        }
    }

    /// The methods that a name or an index stands for; all if there is none.
    pub(crate) fn select(&self, wanted: Option<&str>) -> Result<Vec<MethodId>, Failure> {
        let all: Vec<MethodId> = match &self.kind {
            Kind::Wasm(lowering) => lowering.methods().collect(),
            Kind::Il(dag) => {
                let mut ids: Vec<MethodId> = dag.source.bodies.iter().map(|body| body.method.id()).collect();
                ids.sort_unstable();
                ids
            }
        };
        let Some(wanted) = wanted else { return Ok(all) };
        let found: Vec<MethodId> = all.iter().copied().filter(|id| self.is_called(*id, wanted)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        if let (Kind::Wasm(lowering), Ok(index)) = (&self.kind, wanted.parse::<usize>())
            && index < lowering.module().imported_function_count()
        {
            return Err(Failure::of(
                self.name,
                format!("function {index} is imported; its code is not here"),
            ));
        }
        let names: Vec<String> = all.iter().flat_map(|id| self.names(*id)).collect();
        let hint = match similar(wanted, names.iter().map(String::as_str)) {
            Some(close) => format!("; did you mean `{close}`?"),
            None => format!("; `dagwood print {}` shows all {}", self.name, all.len()),
        };
        Err(Failure::of(self.name, format!("it has no function `{wanted}` with a body{hint}")))
    }

    /// Whether a method has a name or an index.
    fn is_called(&self, id: MethodId, wanted: &str) -> bool {
        let index = match &self.kind {
            Kind::Wasm(lowering) => match lowering.kind(id) {
                Some(MethodKind::Function(function)) => Some(function as usize),
                _ => None,
            },
            Kind::Il(_) => Some(id.index()),
        };
        let bare = wanted.strip_prefix('@').unwrap_or(wanted);
        index.is_some_and(|index| wanted.parse() == Ok(index))
            || self.names(id).iter().any(|name| name == bare)
    }

    /// The names of a method: its own, that of its function, those of its exports.
    fn names(&self, id: MethodId) -> Vec<String> {
        let mut names = vec![self.module().methods[id].name.clone()];
        if let Kind::Wasm(lowering) = &self.kind
            && let Some(MethodKind::Function(function)) = lowering.kind(id)
        {
            let module = lowering.module();
            names.push(module.function_name(function));
            let exports = module.exports().iter();
            let exports =
                exports.filter(|export| export.kind == ExportKind::Func && export.index == function);
            names.extend(exports.map(|export| export.name.clone()));
        }
        names
    }

    /// Visits methods, given by ascending ids.
    pub(crate) fn each(
        &mut self,
        selected: &[MethodId],
        mut visit: impl FnMut(&Known<'_>, &mut Method<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Methods { name, kind, content } = self;
        let content = content.0.to_le_bytes();
        match kind {
            Kind::Wasm(lowering) => {
                let module = lowering.declarations();
                let world = closed_world(module, &content, lowering.methods());
                let known = Known { module, world: &world, callees: &Lowered(lowering) };
                let mut arena = Bump::new();
                for id in selected {
                    arena.reset();
                    let method = lowering.lower(*id, &arena).map_err(|error| Failure::of(name, error));
                    visit(&known, &mut method?)?;
                }
            }
            Kind::Il(dag) => {
                let Dag { source, text, .. } = &mut **dag;
                let callees = TextCallees::new(text, source).map_err(|error| Failure::of(name, error))?;
                source.bodies.sort_by_key(|body| body.method.id());
                let bodies: Vec<MethodId> = source.bodies.iter().map(|body| body.method.id()).collect();
                let world = closed_world(&source.module, &content, bodies);
                let known = Known { module: &source.module, world: &world, callees: &callees };
                for body in &mut source.bodies {
                    if selected.binary_search(&body.method.id()).is_ok() {
                        visit(&known, &mut body.method)?;
                    }
                }
            }
        }
        Ok(())
    }
}
