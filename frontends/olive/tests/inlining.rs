//! Inlining: callees that are known for good come into their callers, and nobody can tell but by the time it takes.

use dagwood_il::text::print_method;
use dagwood_il::{Bump, Folding, Method, MethodId};
use dagwood_olive::engine::{Ended, Limits, Native, Trace, Whole, run_bytecode};
use dagwood_olive::observe::Observed;
use dagwood_olive::{Lowering, Program};
use dagwood_opt::{Callees, Options as Optimization, Request, STRATEGIES, WARM, optimize};
use dagwood_runtime::compiler::Bodies;
use dagwood_runtime::heap::Collect;
use dagwood_runtime::jit::Options;

/// The bodies that come in.
struct Lowered<'l>(&'l Lowering<'l>);

impl Callees for Lowered<'_> {
    fn body<'b>(&self, method: MethodId, arena: &'b Bump) -> Option<Method<'b>> {
        self.0.lower(method, None, arena).ok()
    }
}

/// What `warm` makes of the method `Main.f`.
fn optimized(source: &str) -> String {
    let program = Program::read(source).unwrap_or_else(|error| panic!("{error}"));
    let lowering = Lowering::new(&program, Folding::On);
    let whole = Whole::new(&lowering, None);
    let (module, options) = (lowering.module(), Optimization::default());
    let request = Request {
        world: whole.world(),
        callees: &Lowered(&lowering),
        ..Request::new(module, WARM, &options)
    };
    let arena = Bump::new();
    let id = program.find_method("Main.f").expect("the method is `f`");
    let mut method = lowering.lower(id, None, &arena).expect("what is verified can be lowered");
    optimize(&request, &mut method, &mut ()).unwrap_or_else(|fault| panic!("{fault}"));
    print_method(module, &method)
}

#[test]
fn a_call_comes_in_if_one_method_can_be_meant() {
    let classes = "interface Sized { method size() int }
        class A implements Sized { field x int method size() int { load this get A.x return } }
        abstract class Base { abstract method g() int }
        class Left extends Base { method g() int { int 1 return } }
        class Right extends Base { method g() int { int 2 return } }";
    let main = |body: &str| optimized(&format!("{classes} class Main {{ {body} }}"));
    let known = [
        "static method f(a A) int { load a virtual A.size return }",
        "static method f(a Sized) int { load a interface Sized.size return }",
        "static method f(a A) int { load a interface Sized.size return }",
        "static method g(a A) int { load a virtual A.size return } static method f(a A) int { load a call Main.g return }",
    ];
    for body in known {
        let text = main(body);
        assert!(text.contains("load.i32 @\"A.x\"") && !text.contains("call"), "{text}");
    }
    // The receiver's own type has but one, whatever others there are above.
    let text = main("static method f(a Left) int { load a virtual Base.g return }");
    assert!(text.contains("return 1") || text.contains("const.i32 1"), "{text}");
    assert!(!text.contains("call"), "{text}");
    let text = main("static method f(a Base) int { load a virtual Base.g return }");
    assert!(text.contains("call_virtual.i32 @Base.g("), "{text}");
}

/// How a program ends that prints nothing, and where.
fn trace(ended: Ended) -> (String, Trace) {
    match ended {
        Ended::Uncaught(class, trace) => (class, trace),
        Ended::Stopped(kind, trace) => (kind.to_string(), trace),
        ended => panic!("nothing was raised: {ended}"),
    }
}

#[test]
fn traces_name_callees_that_came_in_and_their_callers() {
    let classes = "class Cell {
            field x int
            field next Cell
            method read() int { load this get Cell.x return }
            method second() int { load this get Cell.next virtual Cell.read return }
            method checked(by int) int { load this get Cell.x load by div return }
            method guarded(by int) int {
              catch Object from held to free at failed
              load this lock
            held:
              load this load by virtual Cell.checked
              unlock
            free:
              return
            failed: (Object) locks 1
              unlock throw
            }
            static method give_up() { new Object throw }
            method rethrown() int {
              var caught Object
              catch NullFault from from to end at failed
            from:
              load this virtual Cell.second return
            end:
            failed: (NullFault)
              call Cell.give_up
              throw
            }
            static method elements(cells Cell[], at int) int { load cells load at get[] virtual Cell.second return }
        }";
    let bodies = [
        "load a virtual Cell.second return",
        "load a int 0 virtual Cell.checked return",
        "load a int 0 virtual Cell.guarded return",
        "load a virtual Cell.rethrown return",
        "int 3 newarray Cell int 3 call Cell.elements return",
        "int 3 newarray Cell int 1 call Cell.elements return",
        "load a load a put Cell.next load a virtual Cell.second load a null put Cell.next load a virtual Cell.second add return",
        "call Cell.give_up int 0 return",
    ];
    for body in bodies {
        let source = format!(
            "{classes} class Main {{ static method f(a Cell) int {{ {body} }}
               static method main() {{ int 7 new Cell call Main.f pop pop return }} }}"
        );
        let program = Program::read(&source).unwrap_or_else(|error| panic!("{error}"));
        let main = program.find_method("Main.main").expect("it is there");
        let mut observed = Observed::new(&program);
        let limits = Limits::default();
        let expected = trace(run_bytecode(&program, main, &[], limits, Some(&mut observed), &mut Vec::new()));
        let profile = observed.snapshot(&program);
        let lowering = Lowering::new(&program, Folding::On);
        for (strategy, profile) in STRATEGIES.iter().flat_map(|own| [(own, None), (own, Some(&profile))]) {
            let options = Options { strategy, ..Options::default() };
            let native = Native::new(&lowering, profile, limits, options).expect("it can be compiled");
            for collect in [Collect::WhenFull, Collect::AtEveryYield] {
                native.set_collect(collect);
                let ended = native.call(main, &[], limits, &mut Vec::new()).expect("it runs");
                assert_eq!(trace(ended), expected, "{}: {body}", strategy.name);
            }
        }
    }
}
