//! Programs of the guest with objects, made from bytes, as text.
//!
//! ```text
//!   classes A, B extends A, C extends B; interface I, which B and C implement; statics
//!   virtual methods `v0 v1`, then static methods `s0 … sk`: each calls only those before it
//!   bodies: assignments, if, switch, loop, try, monitors, throws — nested
//! ```
//!
//! # Guarantees
//!
//! Every program is read and verified without an error, and ends: loops count down, and nothing recurses.

use crate::choices::Choices;

/// Static methods that a program may have.
const MAX_METHODS: usize = 4;
/// How deep statements nest, and how deep expressions do.
const MAX_DEPTH: usize = 3;
/// Statements in a row.
const MAX_STATEMENTS: usize = 5;

/// The types of values.
const TYPES: [&str; 6] = ["int", "long", "double", "A", "int[]", "A[]"];

const HEAD: &str = "\
native print_i32(int)
native print_i64(long)
native print_f64(double)

interface I { method v1(long) long }

class A {
  field int0 int
  field long0 long
  field double0 double
  field a A
  field ints int[]
  static field int1 int
  static field a1 A

  static method b_array(length int) A[] { load length int 7 and newarray B return }

";

/// Makes the text of a program. `Main.main` runs it: it takes nothing and returns an `int`.
pub fn olive_program(bytes: &[u8]) -> String {
    const CLASSES: [&str; 3] =
        ["", "}\n\nclass B extends A implements I {\n  field int2 int\n", "}\n\nclass C extends B {\n"];
    // Each method has a share of its own, and those of the classes a smaller one.
    let (classes, statics) = bytes.split_at(bytes.len() / 3);
    let mut shares = classes.chunks(classes.len() / (2 * CLASSES.len()) + 1);
    let mut share = || Choices::new(shares.next().unwrap_or_default());
    let mut out = HEAD.to_owned();
    for head in CLASSES {
        out += head;
        out += &method(share(), "method v0(x int, y A) int", &[("x", "int"), ("y", "A")], "int", 0);
        out += &method(share(), "method v1(x long) long", &[("x", "long")], "long", 0);
    }
    out += "}\n\nclass Main {\n";
    let count = 1 + usize::from(bytes.first().copied().unwrap_or_default()) % MAX_METHODS;
    let mut shares = statics.chunks(statics.len() / count + 1);
    for index in 0..count {
        let choices = Choices::new(shares.next().unwrap_or_default());
        let head = format!("static method s{index}(x int, y A) int");
        out += &method(choices, &head, &[("x", "int"), ("y", "A")], "int", index + 1);
    }
    let (mut catches, mut calls) = (String::new(), String::new());
    for index in 0..count {
        let class = ["A", "B", "C"][index % 3];
        catches += &format!("    catch Object from from{index} to to{index} at caught{index}\n");
        calls += &format!(
            "  from{index}:\n    int {} new {class} call Main.s{index} native print_i32\n  to{index}:\n    \
             jump next{index}\n  caught{index}: (Object)\n    instanceof Fault native print_i32\n  next{index}:\n",
            index * 7
        );
    }
    out + "  static method main() int {\n" + &catches + &calls + "    getstatic A.int1 return\n  }\n}\n"
}

/// One method. It may call static methods below `level`, and virtual ones unless that is zero.
fn method(
    choices: Choices<'_>,
    head: &str,
    params: &[(&str, &'static str)],
    result: &'static str,
    level: usize,
) -> String {
    let mut body = Body {
        choices,
        vars: params.iter().map(|(name, ty)| ((*name).to_owned(), *ty)).collect(),
        declared: String::new(),
        catches: String::new(),
        out: String::new(),
        stack: Vec::new(),
        locks: 0,
        labels: 0,
        level,
    };
    for ty in TYPES {
        let name = body.variable(ty);
        if !matches!(ty, "int" | "long" | "double") && !body.choices.one_in(4) {
            body.constant(ty);
            body.line(&format!("store {name}"));
            body.stack.pop();
        }
    }
    body.statements(0);
    body.expression(result, 0);
    let Body { declared, catches, out, .. } = body;
    format!("  {head} {{\n{declared}{catches}{out}    return\n  }}\n")
}

struct Body<'b> {
    choices: Choices<'b>,
    vars: Vec<(String, &'static str)>,
    declared: String,
    catches: String,
    out: String,
    /// The types on the stack.
    stack: Vec<&'static str>,
    locks: usize,
    labels: usize,
    level: usize,
}

impl Body<'_> {
    fn variable(&mut self, ty: &'static str) -> String {
        let name = format!("t{}", self.vars.len());
        self.declared += &format!("    var {name} {ty}\n");
        self.vars.push((name.clone(), ty));
        name
    }

    fn label(&mut self) -> String {
        self.labels += 1;
        format!("l{}", self.labels)
    }

    /// Places a label that says what is on the stack, and which monitors are held.
    fn place(&mut self, label: &str) {
        let stack = self.stack.join(", ");
        let stack = if stack.is_empty() { stack } else { format!(" ({stack})") };
        let locks = if self.locks == 0 { String::new() } else { format!(" locks {}", self.locks) };
        self.out += &format!("  {label}:{stack}{locks}\n");
    }

    fn line(&mut self, line: &str) {
        self.out += &format!("    {line}\n");
    }

    // ---- statements ----

    fn statements(&mut self, depth: usize) {
        for _ in 0..1 + self.choices.below(MAX_STATEMENTS) {
            match self.choices.below(if depth < MAX_DEPTH { 14 } else { 7 }) {
                0..=2 => self.assign(),
                3 => self.put(),
                4 => {
                    let (ty, print) = *self.choices.pick(&PRINTS).unwrap_or(&PRINTS[0]);
                    self.expression(ty, 1);
                    self.line(&format!("native {print}"));
                    self.stack.pop();
                }
                5 => self.call_statement(),
                6 => self.put_element(),
                7 | 8 => self.if_else(depth),
                9 => self.repeat(depth),
                10 | 11 => self.attempt(depth),
                12 => self.synchronized(depth),
                _ => self.choose(depth),
            }
        }
    }

    fn assign(&mut self) {
        // Not `this`, and no counter of a loop.
        let vars: Vec<(String, &'static str)> =
            self.vars.iter().filter(|(name, _)| !name.starts_with('c')).cloned().collect();
        if let Some((name, ty)) = self.choices.pick(&vars).cloned() {
            self.expression(ty, 0);
            self.line(&format!("store {name}"));
            self.stack.pop();
        }
    }

    fn put(&mut self) {
        let (field, ty) = *self.choices.pick(&FIELDS).unwrap_or(&FIELDS[0]);
        if field.ends_with('1') {
            self.expression(ty, 0);
            self.line(&format!("putstatic {field}"));
        } else {
            self.expression("A", 1);
            self.expression(ty, 1);
            self.line(&format!("put {field}"));
            self.stack.pop();
        }
        self.stack.pop();
    }

    fn put_element(&mut self) {
        let (array, element) = if self.choices.one_in(2) { ("A[]", "A") } else { ("int[]", "int") };
        for ty in [array, "int", element] {
            self.expression(ty, 1);
        }
        self.line("put[]");
        self.stack.truncate(self.stack.len() - 3);
    }

    fn call_statement(&mut self) {
        self.expression("int", 0);
        self.line("pop");
        self.stack.pop();
    }

    fn if_else(&mut self, depth: usize) {
        let (other, end) = (self.label(), self.label());
        self.expression("int", 0);
        let jump = if self.choices.one_in(2) { "if" } else { "ifnot" };
        self.line(&format!("{jump} {other}"));
        self.stack.pop();
        self.statements(depth + 1);
        self.line(&format!("jump {end}"));
        self.place(&other);
        if self.choices.one_in(2) {
            self.statements(depth + 1);
        }
        self.place(&end);
    }

    fn repeat(&mut self, depth: usize) {
        let (next, end) = (self.label(), self.label());
        let counter = format!("c{}", self.labels);
        self.declared += &format!("    var {counter} int\n");
        self.vars.push((counter.clone(), "int"));
        let trips = self.choices.below(4);
        self.line(&format!("int {trips} store {counter}"));
        self.place(&next);
        self.line(&format!("load {counter} ifnot {end}"));
        self.line(&format!("load {counter} int 1 sub store {counter}"));
        self.statements(depth + 1);
        self.line(&format!("jump {next}"));
        self.place(&end);
    }

    fn choose(&mut self, depth: usize) {
        let labels = [self.label(), self.label(), self.label()];
        let end = self.label();
        self.expression("int", 1);
        let [one, two, other] = &labels;
        self.line(&format!("switch [0: {one}, 1: {two}, -1: {one}, {}: {end}] else {other}", self.labels));
        self.stack.pop();
        for label in &labels {
            self.place(label);
            self.statements(depth + 1);
            if self.choices.one_in(2) {
                self.line(&format!("jump {end}"));
            }
        }
        self.place(&end);
    }

    /// Statements, and a handler of what they raise.
    fn attempt(&mut self, depth: usize) {
        const CAUGHT: [&str; 8] =
            ["Object", "Fault", "NullFault", "BoundsFault", "DivisionFault", "A", "CastFault", "StoreFault"];
        let (from, to, handler, end) = (self.label(), self.label(), self.label(), self.label());
        let class = *self.choices.pick(&CAUGHT).unwrap_or(&"Object");
        self.place(&from);
        self.line("int 0 pop");
        self.statements(depth + 1);
        let is_thrown = self.choices.one_in(3);
        if is_thrown {
            self.expression("A", 0);
            self.line("throw");
            self.stack.pop();
        } else {
            self.line(&format!("jump {end}"));
        }
        self.place(&to);
        self.catches += &format!("    catch {class} from {from} to {to} at {handler}\n");
        self.stack.push(class);
        self.place(&handler);
        if !is_thrown && self.choices.one_in(4) {
            self.line("throw");
        } else {
            self.line("instanceof B native print_i32");
            self.stack.pop();
            self.statements(depth + 1);
            self.stack.push(class);
        }
        self.stack.pop();
        self.place(&end);
    }

    /// Statements with a monitor held.
    fn synchronized(&mut self, depth: usize) {
        let (from, to, handler, end) = (self.label(), self.label(), self.label(), self.label());
        self.expression("A", 0);
        self.line("lock");
        self.stack.pop();
        self.locks += 1;
        self.place(&from);
        self.line("int 0 pop");
        self.statements(depth + 1);
        self.place(&to);
        self.locks -= 1;
        self.line(&format!("unlock jump {end}"));
        self.catches += &format!("    catch Object from {from} to {to} at {handler}\n");
        self.locks += 1;
        self.stack.push("Object");
        self.place(&handler);
        self.locks -= 1;
        self.stack.pop();
        let goes_on = self.choices.one_in(3);
        self.line(if goes_on { "unlock pop" } else { "unlock throw" });
        self.place(&end);
    }

    // ---- expressions ----

    /// Leaves a value of a type on the stack.
    fn expression(&mut self, ty: &'static str, depth: usize) {
        let is_leaf = depth >= MAX_DEPTH || self.choices.is_exhausted();
        match (ty, self.choices.below(if is_leaf { 2 } else { 10 })) {
            (_, 0) => self.constant(ty),
            (_, 1 | 2) => self.load(ty),
            (_, 3) if self.stack.len() < 8 => self.conditional(ty, depth),
            ("int", _) => self.int(depth),
            ("long", 4 | 5) => self.convert(ty, depth),
            ("long", 6) if self.level > 0 => self.interface_call(depth),
            ("long" | "double", 9) => self.take(&["A"], depth, &format!("get A.{ty}0"), ty),
            ("long", _) => self.binary(ty, &INTEGRAL, depth),
            ("double", 4 | 5) => self.convert(ty, depth),
            ("double", _) => self.binary(ty, &FLOATING, depth),
            ("A", 4) => self.take(&["A"], depth, "get A.a", ty),
            ("A", 5) => self.take(&["A[]", "int"], depth, "get[]", ty),
            ("A", 6) => self.take(&["A"], depth, "cast B", ty),
            ("A", 7) => self.take(&[], depth, "getstatic A.a1", ty),
            ("int[]", 4 | 5) => self.take(&["A"], depth, "get A.ints", ty),
            ("int[]", 6 | 7) => self.take(&["int"], depth, "int 7 and newarray int", ty),
            ("A[]", 4 | 5) => self.take(&["int"], depth, "call A.b_array", ty),
            ("A[]", 6 | 7) => self.take(&["int"], depth, "int 3 rem newarray A", ty),
            _ => self.constant(ty),
        }
    }

    /// An operation on values of these types.
    fn take(&mut self, operands: &[&'static str], depth: usize, operation: &str, ty: &'static str) {
        for operand in operands {
            self.expression(operand, depth + 1);
        }
        self.line(operation);
        self.stack.truncate(self.stack.len() - operands.len());
        self.stack.push(ty);
    }

    fn constant(&mut self, ty: &'static str) {
        let line = match ty {
            "int" => format!("int {}", self.choices.bits() as i32),
            "long" => format!("long {}", self.choices.bits() as i64),
            "double" => match f64::from_bits(self.choices.float_bits(64)) {
                float if float.is_nan() => "double nan".into(),
                float => format!("double {float:?}"),
            },
            "A" => {
                const OBJECTS: [&str; 8] =
                    ["new B", "new A", "new C", "new B", "new C", "new B", "new B", "null"];
                (*self.choices.pick(&OBJECTS).unwrap_or(&"null")).to_owned()
            }
            "int[]" => "int 3 newarray int".to_owned(),
            _ => "int 3 newarray A".to_owned(),
        };
        self.line(&line);
        self.stack.push(ty);
    }

    fn load(&mut self, ty: &'static str) {
        let vars: Vec<String> =
            self.vars.iter().filter(|(_, own)| *own == ty).map(|(name, _)| name.clone()).collect();
        match self.choices.pick(&vars).cloned() {
            Some(name) => {
                self.line(&format!("load {name}"));
                self.stack.push(ty);
            }
            None => self.constant(ty),
        }
    }

    /// One of two values, with what is below on the stack across the join.
    fn conditional(&mut self, ty: &'static str, depth: usize) {
        let (other, end) = (self.label(), self.label());
        self.expression("int", depth + 1);
        self.line(&format!("if {other}"));
        self.stack.pop();
        self.expression(ty, depth + 1);
        self.line(&format!("jump {end}"));
        self.stack.pop();
        self.place(&other);
        self.expression(ty, depth + 1);
        self.place(&end);
    }

    fn convert(&mut self, ty: &'static str, depth: usize) {
        let from = TYPES[self.choices.below(3)];
        self.take(&[from], depth, &format!("to_{ty}"), ty);
    }

    fn binary(&mut self, ty: &'static str, operations: &[&str], depth: usize) {
        let operation = (*self.choices.pick(operations).unwrap_or(&"add")).to_owned();
        match operation.as_str() {
            "neg" => self.take(&[ty], depth, "neg", ty),
            "swap" => self.take(&[ty, ty], depth, "swap sub", ty),
            "dup" => self.take(&[ty], depth, "dup mul", ty),
            _ => self.take(&[ty, ty], depth, &operation, ty),
        }
    }

    fn int(&mut self, depth: usize) {
        const COMPARISONS: [&str; 6] = ["lt", "le", "gt", "ge", "eq", "ne"];
        match self.choices.below(12) {
            0 => self.convert("int", depth),
            1 | 2 => {
                let ty = TYPES[self.choices.below(3)];
                let operation = *self.choices.pick(&COMPARISONS).unwrap_or(&"lt");
                self.take(&[ty, ty], depth, operation, "int");
            }
            3 => self.take(&["A", "A"], depth, "eq", "int"),
            4 => self.take(&["A"], depth, "get A.int0", "int"),
            5 => self.take(&["int[]", "int"], depth, "get[]", "int"),
            6 => {
                let array = if self.choices.one_in(2) { "A[]" } else { "int[]" };
                self.take(&[array], depth, "length", "int");
            }
            7 => {
                let class = *self.choices.pick(&["B", "I", "C", "Object"]).unwrap_or(&"B");
                self.take(&["A"], depth, &format!("instanceof {class}"), "int");
            }
            8 if self.level > 0 => self.take(&["A", "int", "A"], depth, "virtual A.v0", "int"),
            9 if self.level > 1 => {
                let callee = self.choices.below(self.level - 1);
                self.take(&["int", "A"], depth, &format!("call Main.s{callee}"), "int");
            }
            10 => self.take(&[], depth, "getstatic A.int1", "int"),
            _ => self.binary("int", &INTEGRAL, depth),
        }
    }

    fn interface_call(&mut self, depth: usize) {
        if self.choices.one_in(2) {
            return self.take(&["A", "long"], depth, "virtual A.v1", "long");
        }
        self.expression("A", depth + 1);
        self.line("cast I");
        self.stack.pop();
        self.stack.push("I");
        self.expression("long", depth + 1);
        self.line("interface I.v1");
        self.stack.truncate(self.stack.len() - 2);
        self.stack.push("long");
    }
}

const INTEGRAL: [&str; 14] =
    ["add", "sub", "mul", "div", "rem", "and", "or", "xor", "shl", "shr", "ushr", "neg", "swap", "dup"];
const FLOATING: [&str; 8] = ["add", "sub", "mul", "div", "rem", "neg", "swap", "dup"];
const PRINTS: [(&str, &str); 3] = [("int", "print_i32"), ("long", "print_i64"), ("double", "print_f64")];
const FIELDS: [(&str, &str); 7] = [
    ("A.int0", "int"),
    ("A.long0", "long"),
    ("A.double0", "double"),
    ("A.a", "A"),
    ("A.ints", "int[]"),
    ("A.int1", "int"),
    ("A.a1", "A"),
];
