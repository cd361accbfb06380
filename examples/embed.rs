//! A whole embedding: build a method, compile it, call it typed, let it call the host, handle every error.
//!
//! ```text
//!   sum(n) = log(1) + log(2) + … + log(n), where log is a function of this program that refuses 13
//! ```

use std::error::Error;
use std::sync::Mutex;

use dagwood::il::eval::Value;
use dagwood::il::{
    Builder, Bump, Folding, Method, MethodId, Module, NativeId, Opcode, RaiseKind, SourcePos, Type,
};
use dagwood::runtime::{
    BodyError, CallCx, CallError, Context, Jit, JitError, Natives, Options, Raise, Thread, ThreadOptions,
    bodies,
};

/// The reason with which `sum` refuses a negative argument; Dagwood passes it on, only this program knows it.
const NEGATIVE: u16 = 1;

/// Builds `sum`: a loop with two locals, a check, and a call of the host.
fn build<'a>(
    module: &Module,
    sum: MethodId,
    log: NativeId,
    arena: &'a Bump,
) -> Result<Method<'a>, BodyError> {
    let mut b = Builder::new(arena, module, sum, Folding::On);
    let (n, i, total) = (b.param(0), b.local("i", Type::I32), b.local("total", Type::I64));
    let (entry, header, done) = (b.block(), b.block(), b.block());

    b.switch_to(entry);
    b.at(SourcePos(1));
    let (limit, zero) = (b.get(n), b.i32(0));
    let is_negative = b.op(Opcode::SLt, &[limit, zero]);
    let is_fine = b.op(Opcode::Eq, &[is_negative, zero]);
    b.check(is_fine, RaiseKind::NegativeSize, NEGATIVE);
    let none = b.i64(0);
    b.set(i, zero);
    b.set(total, none);
    b.goto(header);

    b.switch_to(header);
    let (count, limit) = (b.get(i), b.get(n));
    let goes_on = b.op(Opcode::SLt, &[count, limit]);
    let body = b.extension(header).ok_or("the extended block is too deep")?;
    b.branch(goes_on, body, done);

    b.switch_to(body);
    b.at(SourcePos(2));
    let one = b.i32(1);
    let next = b.op(Opcode::Add, &[count, one]);
    b.set(i, next);
    let logged = b.call_native(log, &[next]);
    let before = b.get(total);
    let after = b.op(Opcode::Add, &[before, logged]);
    b.set(total, after);
    b.goto(header);

    b.switch_to(done);
    let result = b.get(total);
    b.ret(&[result]);
    Ok(b.finish()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut module = Module::new();
    let log = module.declare_native("log", &[Type::I32], &[Type::I64]);
    let sum = module.declare_method("sum", &[Type::I32], &[Type::I64]);

    let seen = Mutex::new(Vec::new());
    let mut natives = Natives::new(&module);
    natives.register(log, |args| {
        let number = args[0].signed();
        if number == 13 {
            return Err(Raise::fault("thirteen is not logged"));
        }
        seen.lock().map_err(|_| Raise::fault("a logger panicked"))?.push(number);
        Ok(vec![Value::i64(number)])
    });

    let jit = Jit::new(module.clone(), Options::default())?;
    let compiled = jit.compile(&[sum], &bodies(|id, arena| build(&module, id, log, arena)));
    match compiled {
        Ok(()) => {}
        Err(JitError::Method { name, failure, .. }) => {
            return Err(format!("{name} is not compiled: {failure}").into());
        }
        Err(other) => return Err(other.into()),
    }

    let thread = Thread::new(&ThreadOptions::default())?;
    let context = Context::new(64)?;
    let cx = CallCx { thread: &thread, context: &context, host: &natives };

    // The signature is checked here, once.
    let typed = jit.typed::<(i32,), (i64,)>(sum)?;
    assert!(jit.typed::<(i64,), (i64,)>(sum).is_err(), "the parameter is an i32");

    let (result,) = typed.call(cx, (12,))?;
    println!(
        "sum(12) = {result}, after {} calls of log",
        seen.lock().map_err(|_| "a logger panicked")?.len()
    );
    assert_eq!(result, 78);

    for argument in [-1, 20] {
        match typed.call(cx, (argument,)) {
            Ok(_) => return Err(format!("sum({argument}) should not have a result").into()),
            Err(CallError::Raised(raise)) => match (raise.kind, raise.reason) {
                (RaiseKind::NegativeSize, NEGATIVE) => {
                    println!("sum({argument}): the argument is negative\n{}", raise.trace)
                }
                _ => println!("sum({argument}): {raise}\n{}", raise.trace),
            },
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("the example handles its errors");
}
