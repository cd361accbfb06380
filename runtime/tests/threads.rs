//! However many threads compile a batch, each method's code comes to the same place and has the same size.

use std::num::NonZeroUsize;

use dagwood_il::eval::Value;
use dagwood_il::{Builder, Folding, MethodId, Module, Opcode, Type};
use dagwood_runtime::{CallCx, Context, Jit, Natives, Options, Thread, ThreadOptions, bodies};

/// Methods of a batch, each calling the one before it and of a size of its own.
const METHODS: usize = 200;

fn compiled(threads: usize) -> (Jit, Vec<MethodId>) {
    let mut module = Module::new();
    let ids: Vec<MethodId> = (0..METHODS)
        .map(|index| module.declare_method(&format!("m{index}"), &[Type::I64], &[Type::I64]))
        .collect();
    let options = Options { threads: NonZeroUsize::new(threads).expect("a thread"), ..Options::default() };
    let jit = Jit::new(module.clone(), options).expect("this machine is supported");
    let built = bodies(|id, arena| {
        let index = ids.iter().position(|other| *other == id).expect("the method is of the batch");
        let mut b = Builder::new(arena, &module, id, Folding::On);
        let entry = b.block();
        b.switch_to(entry);
        let mut value = b.get(b.param(0));
        for step in 0..index % 17 {
            let constant = b.i64(step as i64 * 3 + 1);
            let product = b.op(Opcode::Mul, &[value, constant]);
            value = b.op(Opcode::Xor, &[product, value]);
        }
        if let Some(before) = index.checked_sub(1) {
            value = b.call(ids[before], &[value]);
        }
        b.ret(&[value]);
        Ok(b.finish()?)
    });
    jit.compile(&ids, &built).expect("the batch compiles");
    (jit, ids)
}

/// Where each method's code is beside the first one's, and how long it is.
fn places(jit: &Jit, ids: &[MethodId]) -> Vec<(usize, usize)> {
    let start = jit.method_address(ids[0]).expect("the method has code");
    let place = |id: &MethodId| {
        let address = jit.method_address(*id).expect("the method has code");
        (address.wrapping_sub(start), jit.code().find(address).expect("code is found").len)
    };
    ids.iter().map(place).collect()
}

#[test]
fn any_number_of_threads_makes_the_same_code() {
    let (alone, ids) = compiled(1);
    let thread = Thread::new(&ThreadOptions::default()).expect("a thread block can be had");
    let run = |jit: &Jit| {
        let context = Context::new(64).expect("a context can be had");
        let natives = Natives::new(jit.module());
        let cx = CallCx { thread: &thread, context: &context, host: &natives };
        jit.call(cx, ids[METHODS - 1], &[Value::i64(7)]).expect("the method returns")
    };
    for threads in [2, 3, 8] {
        let (together, ids) = compiled(threads);
        assert_eq!(places(&alone, &ids), places(&together, &ids), "{threads} threads");
        assert_eq!(run(&alone), run(&together), "{threads} threads");
    }
}
