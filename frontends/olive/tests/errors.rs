//! What is wrong with a text is said with its place, and with what would be right.

use dagwood_olive::Program;

/// The error of a program whose class `A` has these members.
fn error(members: &str) -> String {
    let source = format!("interface I {{ method f(int) int }}\nclass A {{\n{members}\n}}\n");
    Program::read(&source).expect_err(members).to_string()
}

/// The error of a static method with this body, which starts on line 3.
fn in_body(body: &str) -> String {
    error(&format!("static method f(x int, y A) int {{\n{body} }}"))
}

#[test]
fn what_cannot_be_read() {
    assert_eq!(Program::read("class").expect_err("").to_string(), "1:6: the source ends; expected a name");
    assert_eq!(
        Program::read("klass A {}").expect_err("").to_string(),
        "1:1: found `klass`; expected `class`, `abstract`, `interface` or `native`"
    );
    assert_eq!(
        Program::read("class A ?").expect_err("").to_string(),
        "1:9: `?` means nothing here; expected a word, a number, or one of `{}()[]:,.`"
    );
    assert_eq!(
        Program::read("class int {}").expect_err("").to_string(),
        "1:7: `int` is the name of another type; expected a name of its own"
    );
    assert_eq!(
        Program::read("class A extends B {}\nclass B {}").expect_err("").to_string(),
        "1:17: found `B`; expected a class that stands above"
    );
    assert_eq!(
        Program::read("class A implements Object {}").expect_err("").to_string(),
        "1:20: found `Object`; expected an interface that stands above"
    );
    assert_eq!(error("field x byte"), "4:1: found `}`; expected `[]`: bytes are kept in arrays only");
    assert_eq!(
        error("field x int field x int"),
        "3:19: found `x`; expected another name: the class has a field or static of this one"
    );
    assert_eq!(
        error("abstract method f()"),
        "3:1: found `abstract`; expected no abstract method in a class that is not abstract"
    );
    assert_eq!(
        in_body("load z return"),
        "4:6: found `z`; expected the name of a variable or parameter of this method"
    );
    assert_eq!(
        in_body("jump z"),
        "4:6: found `z`; expected the name of a label that is placed in this method"
    );
    assert_eq!(in_body("a: jump a a:"), "4:11: found `a`; expected another name: this label is placed above");
    assert_eq!(in_body("int 2147483648 return"), "4:5: found `2147483648`; expected a number of 32 bits");
    assert_eq!(
        in_body("call A.g return"),
        "4:8: found `g`; expected the name of a method with a body of `A`"
    );
    assert_eq!(
        in_body("load y virtual I.f return"),
        "4:8: found `virtual`; expected `interface` for a method of an interface"
    );
    assert_eq!(in_body("hop return"), "4:1: found `hop`; expected an operation, a label or `}`");
}

#[test]
fn what_does_not_fit_together() {
    let missing = Program::read(
        "interface I { method f(int) int }\nclass A implements I { method f(x long) int { int 1 return } }",
    );
    assert_eq!(
        missing.expect_err("").to_string(),
        "2:7: `A` has no method that fits `I.f`; expected one, or `abstract` before `class`"
    );
    let other = Program::read(
        "class A { method f() int { int 1 return } }\nclass B extends A { method f() long { long 1 return } }",
    );
    assert_eq!(
        other.expect_err("").to_string(),
        "2:28: found `f`; expected the parameters and result of the method that this one overrides, or another name"
    );
    let made = Program::read("abstract class A {}\nclass B { static method f() { new A pop return } }");
    assert_eq!(
        made.expect_err("").to_string(),
        "2:31: there are no objects of just `A`; expected a class that is not abstract"
    );
}

#[test]
fn what_does_not_verify() {
    assert_eq!(in_body("add return"), "4:1: the stack is empty; expected a number");
    assert_eq!(in_body("int 1 long 1 add return"), "4:14: found int, long; expected two numbers of one type");
    assert_eq!(
        in_body("double 1 double 1 shl return"),
        "4:19: found double, double; expected two integers of one type"
    );
    assert_eq!(in_body("load y return"), "4:8: found A on the stack; expected int");
    assert_eq!(in_body("int 1 int 2 return"), "4:13: (int) is left on the stack; expected the result alone");
    assert_eq!(in_body("int 1 pop"), "4:11: the code ends here; expected `return`, `throw` or `jump`");
    assert_eq!(
        in_body("int 1 return int 2 return"),
        "4:14: this is never reached; expected a label before it to which something jumps"
    );
    assert_eq!(
        in_body("load x if a int 1 return a: (int) return"),
        "4:8: with () on the stack; expected (int), which `a` says"
    );
    assert_eq!(
        in_body("load y int 1 int 2 put[] int 1 return"),
        "4:20: found A on the stack; expected an array"
    );
    assert_eq!(
        in_body("load y cast I load x long 1 interface I.f return"),
        "4:29: found long on the stack; expected int"
    );
    assert_eq!(in_body("load y int 1 interface I.f return"), "4:14: found A on the stack; expected I");
    assert_eq!(
        error("method f() { null store this return }"),
        "3:19: `this` is given a value; expected a variable"
    );
    assert_eq!(
        in_body("catch A from a to a at b a: load x return b: (A) pop int 1 return"),
        "4:1: the handler covers nothing; expected its first label before its second"
    );
    assert_eq!(
        in_body("catch Object from a to b at c a: load x b: return c: (A) pop int 1 return"),
        "4:1: what `Object` catches does not fit `c`; expected `c: (Object)`"
    );
}

#[test]
fn what_would_leave_a_monitor_held() {
    assert_eq!(
        in_body("load y lock int 1 return"),
        "4:19: a monitor is held; expected `unlock` before `return`"
    );
    assert_eq!(in_body("unlock int 1 return"), "4:1: no monitor is held; expected `lock` before it");
    assert_eq!(
        in_body("load y lock int 1 load x div unlock return"),
        "4:26: this may raise with a monitor held; expected a handler of `Object` that covers it"
    );
    let partly = "catch DivisionFault from a to b at c load y lock a: int 1 load x div b: unlock return c: (Object) locks 1 unlock throw";
    assert_eq!(
        in_body(partly),
        "4:66: this may raise with a monitor held; expected a handler of `Object` that covers it"
    );
    let unlocked = partly.replace("DivisionFault", "Object").replace("locks 1 unlock", "");
    assert_eq!(
        in_body(&unlocked),
        "4:59: this may raise with 1 monitors held; expected 0, which the handler `c` says"
    );
    let source = format!(
        "class A {{ static method f(x int, y A) int {{ {} }} }}",
        partly.replace("DivisionFault", "Object")
    );
    assert!(Program::read(&source).is_ok());
}
