//! What another compiler computes: each recorded scalar program in the interpreter, with folding and without, and as native code,
//! with passes and without.
//!
//! The records are not part of this repository; without them the test says so and passes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use bumpalo::Bump;
use dagwood_il::eval::Value;
use dagwood_il::interp::{Interpreter, Limits, Program, Regions, Values};
use dagwood_il::verify::verify;
use dagwood_il::{Folding, Method, MethodId, Module, NativeId, Type};
use dagwood_opt::{NONE, Strategy, WARM};
use dagwood_runtime::compiler::bodies;
use dagwood_runtime::context::Context;
use dagwood_runtime::jit::{CallCx, Jit, Options};
use dagwood_runtime::natives::Natives;
use dagwood_runtime::thread::{self, Thread};
use dagwood_tests::tril::{Reject, Tril};
use serde_json::Value as Json;

/// Programs that are declared in one module and compiled together.
const BATCH: usize = 2000;

/// One recorded execution.
struct Row {
    id: u64,
    args: Vec<(Type, u64, bool)>,
    result: Option<(Type, u64)>,
}

/// A program with its executions.
struct Case {
    text: String,
    callees: Vec<(String, String)>,
    rows: Vec<Row>,
}

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance/tril");
    folder.is_dir().then_some(folder)
}

/// A scalar as recorded: type, bits, whether it is unsigned. None for a pointer.
fn scalar(json: &Json) -> Option<(Type, u64, bool)> {
    let name = json["ty"].as_str()?;
    let ty = match name.trim_start_matches(['i', 'u', 'f']) {
        "8" => Type::I8,
        "16" => Type::I16,
        "32" if name.starts_with('f') => Type::F32,
        "64" if name.starts_with('f') => Type::F64,
        "32" => Type::I32,
        "64" => Type::I64,
        _ => return None,
    };
    let bits = u64::from_str_radix(json["bits"].as_str()?.trim_start_matches("0x"), 16).ok()?;
    Some((ty, bits, name.starts_with('u')))
}

/// The scalar programs of all files, and how many records are not about scalars.
fn cases(folder: &Path) -> (Vec<Case>, usize) {
    let mut files: Vec<PathBuf> = folder
        .read_dir()
        .expect("the folder can be listed")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let (mut by_text, mut order, mut others) = (BTreeMap::new(), Vec::<Case>::new(), 0);
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "gz")) {
        let reader = flate2::read::GzDecoder::new(File::open(file).expect("the file can be read"));
        for line in BufReader::new(reader).lines() {
            let json: Json =
                serde_json::from_str(&line.expect("the file is whole")).expect("each line is JSON");
            let args: Option<Vec<_>> =
                json["args"].as_array().expect("arguments").iter().map(scalar).collect();
            let is_void = json["ret"]["ty"] == "void";
            let result = scalar(&json["ret"]).map(|(ty, bits, _)| (ty, bits));
            let Some(args) = args.filter(|_| is_void || result.is_some()) else {
                others += 1;
                continue;
            };
            let text = json["tril"].as_str().expect("a program").to_owned();
            let callees: Vec<(String, String)> = json["callees"].as_array().map_or(Vec::new(), |callees| {
                let field = |callee: &Json, key: &str| callee[key].as_str().unwrap_or_default().to_owned();
                callees.iter().map(|callee| (field(callee, "id"), field(callee, "symbol"))).collect()
            });
            let key = format!("{text}{callees:?}");
            let index = *by_text.entry(key).or_insert_with(|| {
                order.push(Case { text, callees, rows: Vec::new() });
                order.len() - 1
            });
            let id = json["id"].as_u64().expect("an id");
            order[index].rows.push(Row { id, args, result });
        }
    }
    (order, others)
}

/// A native function that records call: `return3rdArgument<int>` or `oracleBoracle`, by its mangled name.
fn native(symbol: &str, args: &[Value]) -> Value {
    match symbol
        .split_once("return")
        .and_then(|(_, rest)| rest.split(char::is_alphabetic).next()?.parse::<usize>().ok())
    {
        Some(ordinal) => args[ordinal - 1],
        None if symbol.contains("oracleBoracle") => Value::i32(args[0].signed() as i32 + 1123),
        None => panic!("{symbol} is not known"),
    }
}

/// Declares the functions that a program calls, with the types that the call gives them.
fn declare_natives(
    case: &Case,
    module: &mut Module,
    symbols: &mut Vec<(NativeId, String)>,
) -> BTreeMap<String, NativeId> {
    let mut natives = BTreeMap::new();
    for (address, symbol) in &case.callees {
        let (before, after) =
            case.text.split_once(&format!("call address={address} args=[")).expect("the callee is called");
        let letter = |name: &str| match name.trim() {
            "Int8" => Type::I8,
            "Int16" => Type::I16,
            "Int32" => Type::I32,
            "Int64" => Type::I64,
            "Float" => Type::F32,
            "Double" => Type::F64,
            other => panic!("{other} is no scalar"),
        };
        let params: Vec<Type> =
            after.split(']').next().expect("a list ends").split(',').map(letter).collect();
        let result = match before.chars().last() {
            Some('i') => Type::I32,
            Some('l') => Type::I64,
            Some('f') => Type::F32,
            Some('d') => Type::F64,
            other => panic!("{other:?} begins no call"),
        };
        let id = module.declare_native(symbol, &params, &[result]);
        symbols.push((id, symbol.clone()));
        natives.insert(address.clone(), id);
    }
    natives
}

/// The argument as the method takes it: widened by its own signedness, where the caller's type is narrower.
fn argument((from, bits, is_unsigned): (Type, u64, bool), to: Type) -> Value {
    let shift = 64 - from.bits();
    let wide = if is_unsigned || from.is_float() { bits } else { ((bits << shift) as i64 >> shift) as u64 };
    Value::from_bits(to, wide & to.mask())
}

/// Whether a result is the recorded one, seen through the caller's type.
fn agrees(values: &[Value], expected: Option<(Type, u64)>) -> bool {
    match (values, expected) {
        ([], None) => true,
        ([value], Some((ty, bits))) => {
            Value::from_bits(ty, value.low() & ty.mask()).same_modulo_nan(Value::from_bits(ty, bits))
        }
        _ => false,
    }
}

/// A module with the programs of a batch.
struct Batch<'c> {
    module: Module,
    programs: Vec<(&'c Case, Tril)>,
    symbols: Vec<(NativeId, String)>,
}

impl Batch<'_> {
    fn args(&self, method: MethodId, row: &Row) -> Vec<Value> {
        let params = &self.module.method_signature(method).params;
        // A program that uses constants has parameters too, which its records do not give.
        let given = row.args.iter().copied().chain(std::iter::repeat((Type::I8, 0, true)));
        params.iter().zip(given).map(|(ty, arg)| argument(arg, *ty)).collect()
    }

    fn text(&self, method: MethodId) -> &str {
        self.programs.iter().find(|(_, program)| program.method == method).map_or("?", |(case, _)| &case.text)
    }

    /// Runs every row through `run`; how many there were.
    fn check(&self, what: &str, mut run: impl FnMut(MethodId, &[Value]) -> Values) -> usize {
        let mut rows = 0;
        for (case, program) in &self.programs {
            for row in &case.rows {
                let values = run(program.method, &self.args(program.method, row));
                let same = agrees(&values, row.result);
                assert!(same, "{what}, row {}: {values:?}, not {:x?}, by {}", row.id, row.result, case.text);
                rows += 1;
            }
        }
        rows
    }

    fn interpret(&self, folding: Folding) -> usize {
        let arena = Bump::new();
        let bodies: BTreeMap<MethodId, &Method<'_>> = self
            .programs
            .iter()
            .map(|(case, program)| {
                let method = program.build(&self.module, &arena, folding);
                let method = method.unwrap_or_else(|error| panic!("{error:?} in {}", case.text));
                (program.method, &*arena.alloc(method))
            })
            .collect();
        for (method, body) in &bodies {
            verify(&self.module, body)
                .unwrap_or_else(|errors| panic!("{method}: {errors:?} in {}", self.text(*method)));
        }
        let lookup = |method| bodies.get(&method).copied();
        let mut interpreter = Interpreter::new(Program { module: &self.module, bodies: &lookup });
        let mut host = Regions::new(&self.module);
        for (id, symbol) in &self.symbols {
            host.native(*id, move |_, _, args| Ok(Values::from_slice(&[native(symbol, args)])));
        }
        let what = format!("interpreted, folding {folding:?}");
        self.check(&what, |method, args| {
            interpreter
                .run(&mut host, method, 0, args, Limits::default())
                .unwrap_or_else(|stop| panic!("{what}: {stop:?} in {}", self.text(method)))
        })
    }
}

impl Batch<'_> {
    fn compile(&self, folding: Folding, strategy: &'static Strategy) -> usize {
        let options = Options { strategy, ..Options::default() };
        let jit = Jit::new(self.module.clone(), options).expect("this machine is supported");
        let mut natives = Natives::new(&self.module);
        for (id, symbol) in &self.symbols {
            natives.register(*id, move |args| Ok(vec![native(symbol, args)]));
        }
        let by_method: BTreeMap<MethodId, &Tril> =
            self.programs.iter().map(|(_, program)| (program.method, program)).collect();
        let bodies = bodies(|id, arena| {
            by_method[&id].build(&self.module, arena, folding).map_err(|reject| format!("{reject:?}").into())
        });
        let methods: Vec<MethodId> = by_method.keys().copied().collect();
        jit.compile(&methods, &bodies).unwrap_or_else(|error| panic!("{error}"));
        let thread = Thread::new(&thread::Options::default()).expect("a thread block can be had");
        let context = Context::new(64).expect("a context can be had");
        let cx = CallCx { thread: &thread, context: &context, host: &natives };
        let what = format!("native, folding {folding:?}, {}", strategy.name);
        self.check(&what, |method, args| {
            let values = jit.call(cx, method, args);
            values.unwrap_or_else(|error| panic!("{what}: {error} in {}", self.text(method))).into()
        })
    }
}

/// Splits the programs into batches; the programs that are about more than scalars are counted by reason.
fn batches(cases: &[Case]) -> (Vec<Batch<'_>>, BTreeMap<String, usize>) {
    let (mut batches, mut rejected) = (Vec::new(), BTreeMap::new());
    for chunk in cases.chunks(BATCH) {
        let mut batch = Batch { module: Module::new(), programs: Vec::new(), symbols: Vec::new() };
        for case in chunk {
            let natives = declare_natives(case, &mut batch.module, &mut batch.symbols);
            // Building once tells whether it is scalar at all.
            let arena = Bump::new();
            let program = Tril::declare(&case.text, &mut batch.module, natives);
            match program
                .and_then(|program| program.build(&batch.module, &arena, Folding::Off).map(|_| program))
            {
                Ok(program) => batch.programs.push((case, program)),
                Err(Reject::NotScalar(what)) => *rejected.entry(what).or_insert(0) += case.rows.len(),
                Err(Reject::Malformed(what)) => panic!("{what} in {}", case.text),
            }
        }
        batches.push(batch);
    }
    (batches, rejected)
}

#[test]
fn recorded_programs_compute_what_was_recorded() {
    let Some(folder) = folder() else {
        println!("skipped: there are no records at ../shared/conformance/tril");
        return;
    };
    let (cases, others) = cases(&folder);
    let (batches, rejected) = batches(&cases);
    let (mut interpreted, mut compiled) = (0, 0);
    for batch in &batches {
        interpreted += batch.interpret(Folding::On);
        batch.interpret(Folding::Off);
        compiled += batch.compile(Folding::On, NONE);
        batch.compile(Folding::Off, NONE);
        batch.compile(Folding::On, WARM);
    }
    assert_eq!(interpreted, compiled);
    println!(
        "{interpreted} rows of scalar programs; {others} records with pointers; not scalar: {rejected:?}"
    );
    // Only bit permutations through a table in memory that was not recorded are left out.
    assert!(rejected.keys().all(|what| what.contains("bitpermute")), "{rejected:?}");
    assert!(interpreted > 67_000, "{interpreted} rows ran");
}
