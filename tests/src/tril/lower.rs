//! Tril opcodes to our IL.

use std::collections::{BTreeMap, HashMap};

use bumpalo::Bump;
use dagwood_il::{Block, Builder, Folding, Local, Method, MethodId, Module, NativeId, Node, Opcode, Type};

use super::sexp::{Sexp, parse};

/// A Tril program, declared in a module.
pub struct Tril {
    tree: Sexp,
    /// The declared method.
    pub method: MethodId,
    natives: BTreeMap<String, NativeId>,
}

/// Why a program is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// It is about something our scalar IL does not have, or refers to memory that was not recorded.
    NotScalar(String),
    /// It is not Tril.
    Malformed(String),
}

/// The type that a Tril type name stands for.
fn type_of(name: &str) -> Result<Type, Reject> {
    Ok(match name {
        "Int8" => Type::I8,
        "Int16" => Type::I16,
        "Int32" => Type::I32,
        "Int64" => Type::I64,
        "Float" => Type::F32,
        "Double" => Type::F64,
        "Address" => Type::Addr,
        "NoType" => Type::Void,
        _ => return Err(Reject::NotScalar(format!("type {name}"))),
    })
}

/// The type that an opcode's first letter stands for.
fn type_of_letter(letter: char) -> Option<Type> {
    Some(match letter {
        'b' => Type::I8,
        's' => Type::I16,
        'i' => Type::I32,
        'l' => Type::I64,
        'f' => Type::F32,
        'd' => Type::F64,
        'a' => Type::Addr,
        _ => return None,
    })
}

/// Operations that are ours but for the type in their name: name without the letter, for integers, for floats.
const PLAIN: &[(&str, Option<Opcode>, Option<Opcode>)] = &[
    ("add", Some(Opcode::Add), Some(Opcode::FAdd)),
    ("sub", Some(Opcode::Sub), Some(Opcode::FSub)),
    ("mul", Some(Opcode::Mul), Some(Opcode::FMul)),
    ("div", Some(Opcode::SDiv), Some(Opcode::FDiv)),
    ("rem", Some(Opcode::SRem), Some(Opcode::FRem)),
    ("udiv", Some(Opcode::UDiv), None),
    ("urem", Some(Opcode::URem), None),
    ("mulh", Some(Opcode::SMulHigh), None),
    ("umulh", Some(Opcode::UMulHigh), None),
    ("neg", Some(Opcode::Neg), Some(Opcode::FNeg)),
    ("abs", Some(Opcode::Abs), Some(Opcode::FAbs)),
    ("min", Some(Opcode::SMin), Some(Opcode::FMin)),
    ("max", Some(Opcode::SMax), Some(Opcode::FMax)),
    ("umin", Some(Opcode::UMin), None),
    ("umax", Some(Opcode::UMax), None),
    ("and", Some(Opcode::And), None),
    ("or", Some(Opcode::Or), None),
    ("xor", Some(Opcode::Xor), None),
    ("byteswap", Some(Opcode::Bswap), None),
    ("sqrt", None, Some(Opcode::FSqrt)),
    ("floor", None, Some(Opcode::FFloor)),
    ("ceil", None, Some(Opcode::FCeil)),
];

/// Operations whose second operand is a distance of 32 bits.
const SHIFTS: &[(&str, Opcode)] =
    &[("shl", Opcode::Shl), ("shr", Opcode::SShr), ("ushr", Opcode::UShr), ("rol", Opcode::RotL)];

/// Comparisons: the part of the name after `cmp`, signed, unsigned, float.
const COMPARISONS: &[(&str, Opcode, Opcode, Opcode)] = &[
    ("eq", Opcode::Eq, Opcode::Eq, Opcode::FEq),
    ("ne", Opcode::Ne, Opcode::Ne, Opcode::FNe),
    ("lt", Opcode::SLt, Opcode::ULt, Opcode::FLt),
    ("le", Opcode::SLe, Opcode::ULe, Opcode::FLe),
    ("gt", Opcode::SGt, Opcode::UGt, Opcode::FGt),
    ("ge", Opcode::SGe, Opcode::UGe, Opcode::FGe),
];

impl Tril {
    /// Reads a program and declares its method. `natives` are the host's functions that it may call, by their names.
    pub fn declare(
        text: &str,
        module: &mut Module,
        natives: BTreeMap<String, NativeId>,
    ) -> Result<Tril, Reject> {
        let tree = parse(text).map_err(Reject::Malformed)?;
        let params = tree.keys.get("args").map_or("", String::as_str);
        let params: Vec<Type> =
            params.split(',').filter(|name| !name.is_empty()).map(type_of).collect::<Result<_, _>>()?;
        let result =
            type_of(tree.keys.get("return").ok_or_else(|| Reject::Malformed("no return type".into()))?)?;
        // An integer of fewer than 32 bits is returned as one of 32, as its return opcode says.
        let result = if result.is_int() && result.bits() < 32 { Type::I32 } else { result };
        let results: &[Type] = if result == Type::Void { &[] } else { &[result] };
        let method = module.declare_method(&format!("tril{}", module.methods.len()), &params, results);
        Ok(Tril { tree, method, natives })
    }

    /// Builds the method.
    pub fn build<'a>(
        &self,
        module: &Module,
        arena: &'a Bump,
        folding: Folding,
    ) -> Result<Method<'a>, Reject> {
        let builder = Builder::new(arena, module, self.method, folding);
        Lowering { tril: self, builder, temps: HashMap::new(), ids: HashMap::new(), blocks: Vec::new() }
            .method()
    }
}

struct Lowering<'a, 'm, 't> {
    tril: &'t Tril,
    builder: Builder<'a, 'm>,
    temps: HashMap<String, Local>,
    ids: HashMap<String, Node>,
    blocks: Vec<(Option<String>, Block)>,
}

fn not_scalar<T>(what: impl Into<String>) -> Result<T, Reject> {
    Err(Reject::NotScalar(what.into()))
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Reject> {
    Err(Reject::Malformed(what.into()))
}

impl<'a> Lowering<'a, '_, '_> {
    fn method(mut self) -> Result<Method<'a>, Reject> {
        let blocks = &self.tril.tree.children;
        for block in blocks {
            let made = self.builder.block();
            self.blocks.push((block.keys.get("name").cloned(), made));
        }
        for (index, block) in blocks.iter().enumerate() {
            self.builder.switch_to(self.blocks[index].1);
            self.ids.clear();
            for node in &block.children {
                self.statement(node, index)?;
            }
            if self.builder.current().is_some() {
                let next = self.next_block(block, index)?;
                self.builder.goto(next);
            }
        }
        self.builder.finish().map_err(|error| Reject::Malformed(error.to_string()))
    }

    fn next_block(&self, block: &Sexp, index: usize) -> Result<Block, Reject> {
        match (block.keys.get("fallthrough"), self.blocks.get(index + 1)) {
            (Some(name), _) => self.block_named(name),
            (None, Some((_, next))) => Ok(*next),
            (None, None) => malformed("the last block falls through"),
        }
    }

    fn block_named(&self, name: &str) -> Result<Block, Reject> {
        let found = self.blocks.iter().find(|(of, _)| of.as_deref() == Some(name));
        found.map(|(_, block)| *block).ok_or_else(|| Reject::Malformed(format!("no block {name}")))
    }

    fn statement(&mut self, node: &Sexp, index: usize) -> Result<(), Reject> {
        let name = node.name.as_str();
        if name == "goto" {
            let target = self.target(node)?;
            self.builder.goto(target);
        } else if name == "lookup" {
            self.lookup(node)?;
        } else if let Some(comparison) = name.strip_prefix("if").filter(|rest| rest.contains("cmp")) {
            let condition = self.comparison(comparison, node)?;
            let (target, next) =
                (self.target(node)?, self.next_block(&self.tril.tree.children[index], index)?);
            self.builder.branch(condition, target, next);
        } else if name == "return" {
            self.builder.ret(&[]);
        } else if name.ends_with("return") {
            // An integer narrower than the opcode says is returned in its low bits.
            let value = self.child(node, 0)?;
            let is_narrow = name == "ireturn" && self.builder.method().ty(value).bits() < 32;
            let value = if is_narrow { self.builder.convert(Opcode::SExt, Type::I32, value) } else { value };
            self.builder.ret(&[value]);
        } else if name.len() == 6 && name.ends_with("store") {
            let value = self.child(node, 0)?;
            let local = self.local(node, self.builder.method().ty(value))?;
            self.builder.set(local, value);
        } else {
            self.value(node)?;
        }
        Ok(())
    }

    fn target(&self, node: &Sexp) -> Result<Block, Reject> {
        self.block_named(node.keys.get("target").ok_or_else(|| Reject::Malformed("no target".into()))?)
    }

    fn lookup(&mut self, node: &Sexp) -> Result<(), Reject> {
        let value = self.child(node, 0)?;
        let (mut cases, mut default) = (Vec::new(), None);
        for case in &node.children[1..] {
            let target = self.target(case)?;
            match case.keys.get("value").map(|text| text.parse::<i64>()) {
                Some(Ok(bits)) => cases.push((bits as u64, target)),
                None => default = Some(target),
                Some(Err(_)) => return malformed("a case's value is no number"),
            }
        }
        let Some(default) = default else { return malformed("a lookup has no default") };
        self.builder.switch(value, &cases, default);
        Ok(())
    }

    fn local(&mut self, node: &Sexp, ty: Type) -> Result<Local, Reject> {
        if let Some(index) = node.keys.get("parm") {
            return match index.parse::<usize>() {
                Ok(index) if index < self.builder.method().param_count() => Ok(self.builder.param(index)),
                _ => malformed(format!("parameter {index}")),
            };
        }
        let Some(name) = node.keys.get("temp") else { return malformed("a load names no local") };
        if let Some(local) = self.temps.get(name) {
            return Ok(*local);
        }
        let local = self.builder.local(name, ty);
        self.temps.insert(name.clone(), local);
        Ok(local)
    }

    fn child(&mut self, node: &Sexp, index: usize) -> Result<Node, Reject> {
        match node.children.get(index) {
            Some(child) => self.value(child),
            None => malformed(format!("{} has no operand {index}", node.name)),
        }
    }

    fn children(&mut self, node: &Sexp) -> Result<Vec<Node>, Reject> {
        node.children.iter().map(|child| self.value(child)).collect()
    }

    /// The value of a node, evaluated here if this is the first reference to it.
    fn value(&mut self, node: &Sexp) -> Result<Node, Reject> {
        if node.name == "@id" {
            let id =
                node.words.first().ok_or_else(|| Reject::Malformed("a reference names nothing".into()))?;
            return self.ids.get(id).copied().ok_or_else(|| Reject::Malformed(format!("no node {id}")));
        }
        let value = self.evaluate(node)?;
        if let Some(id) = node.keys.get("id") {
            self.ids.insert(id.clone(), value);
        }
        Ok(value)
    }

    fn evaluate(&mut self, node: &Sexp) -> Result<Node, Reject> {
        let name = node.name.as_str();
        if let Some((opcode, from, to)) = conversion(name) {
            let operand = self.child(node, 0)?;
            if self.builder.method().ty(operand) != from {
                return malformed(format!("{name} of another type"));
            }
            // Flag 15 of a conversion to bits: NaNs become the canonical one.
            let is_canonical = node.keys.get("flags").is_some_and(|flags| flags == "15");
            let operand = if is_canonical && from.is_float() {
                self.builder.op(Opcode::FCanonicalise, &[operand])
            } else {
                operand
            };
            return Ok(self.builder.convert(opcode, to, operand));
        }
        if name.contains("cmp") && !name.starts_with("array") {
            return self.comparison(name, node);
        }
        let mut letters = name.chars();
        let Some(ty) = letters.next().and_then(type_of_letter) else { return not_scalar(name) };
        let rest = letters.as_str();
        if let Some((_, ints, floats)) = PLAIN.iter().find(|(plain, ..)| *plain == rest) {
            let Some(opcode) = (if ty.is_float() { *floats } else { *ints }) else { return not_scalar(name) };
            let operands = self.children(node)?;
            return Ok(self.builder.emit(opcode, ty, &operands, dagwood_il::Payload::None));
        }
        if let Some((_, opcode)) = SHIFTS.iter().find(|(shift, _)| *shift == rest) {
            let (value, distance) = (self.child(node, 0)?, self.child(node, 1)?);
            let distance = self.resize(distance, ty);
            return Ok(self.builder.op(*opcode, &[value, distance]));
        }
        match rest {
            "ladd" if ty == Type::Addr => {
                let operands = self.children(node)?;
                Ok(self.builder.op(Opcode::AddrAdd, &operands))
            }
            "const" => self.constant(node, ty),
            "load" => {
                let local = self.local(node, ty)?;
                Ok(self.builder.get(local))
            }
            "select" => {
                let operands = self.children(node)?;
                Ok(self.builder.op(Opcode::Select, &operands))
            }
            "call" => self.call(node, ty),
            _ => not_scalar(name),
        }
    }

    fn resize(&mut self, value: Node, ty: Type) -> Node {
        let from = self.builder.method().ty(value);
        match from.bits().cmp(&ty.bits()) {
            std::cmp::Ordering::Less => self.builder.convert(Opcode::UExt, ty, value),
            std::cmp::Ordering::Equal => value,
            std::cmp::Ordering::Greater => self.builder.convert(Opcode::Wrap, ty, value),
        }
    }

    fn constant(&mut self, node: &Sexp, ty: Type) -> Result<Node, Reject> {
        let Some(text) = node.words.first() else { return malformed("a constant has no value") };
        let bad = || Reject::Malformed(format!("{text} is no number"));
        let bits = match ty {
            Type::F32 => (text.parse::<f64>().map_err(|_| bad())? as f32).to_bits().into(),
            Type::F64 => text.parse::<f64>().map_err(|_| bad())?.to_bits(),
            _ => text
                .parse::<i64>()
                .map(|value| value as u64)
                .or_else(|_| text.parse::<u64>())
                .map_err(|_| bad())?,
        };
        Ok(self.builder.constant(ty, bits))
    }

    /// `icmplt`, `iucmpge`, `fcmpneu`, `lcmp`, `dcmpg`, …: one or zero, or less, equal, greater.
    fn comparison(&mut self, name: &str, node: &Sexp) -> Result<Node, Reject> {
        let Some((prefix, relation)) = name.split_once("cmp") else { return not_scalar(name) };
        let Some(ty) = prefix.chars().next().and_then(type_of_letter) else { return not_scalar(name) };
        let (left, right) = (self.child(node, 0)?, self.child(node, 1)?);
        let relation = match (relation, ty.is_float()) {
            ("" | "l" | "g", _) => return Ok(self.three_way(ty, left, right, relation)),
            (relation, true) => relation,
            (relation, false) => relation.trim_end_matches('u'),
        };
        let is_unordered = relation.len() == 3 && relation.ends_with('u');
        let Some((_, signed, unsigned, float)) =
            COMPARISONS.iter().find(|row| row.0 == &relation[..relation.len().min(2)])
        else {
            return not_scalar(name);
        };
        if !ty.is_float() {
            return Ok(self
                .builder
                .op(if prefix.ends_with('u') { *unsigned } else { *signed }, &[left, right]));
        }
        let holds = self.builder.op(*float, &[left, right]);
        // Ours: `fne` holds for unordered operands, all others do not. Theirs: those ending in `u` do, all others do not.
        if is_unordered == (*float == Opcode::FNe) {
            return Ok(holds);
        }
        let (left, right) =
            (self.builder.op(Opcode::FEq, &[left, left]), self.builder.op(Opcode::FEq, &[right, right]));
        let ordered = self.builder.op(Opcode::And, &[left, right]);
        if *float == Opcode::FNe {
            return Ok(self.builder.op(Opcode::And, &[holds, ordered]));
        }
        let one = self.builder.i32(1);
        let unordered = self.builder.op(Opcode::Xor, &[ordered, one]);
        Ok(self.builder.op(Opcode::Or, &[holds, unordered]))
    }

    /// -1, 0 or 1; where the operands are unordered, `l` gives -1 and `g` 1.
    fn three_way(&mut self, ty: Type, left: Node, right: Node, relation: &str) -> Node {
        let (less, equal) =
            if ty.is_float() { (Opcode::FLt, Opcode::FEq) } else { (Opcode::SLt, Opcode::Eq) };
        let greater = if ty.is_float() { Opcode::FGt } else { Opcode::SGt };
        let (minus, zero, one) = (self.builder.i32(-1), self.builder.i32(0), self.builder.i32(1));
        let first = if relation == "l" { greater } else { less };
        let (on_first, otherwise) = if relation == "l" { (one, minus) } else { (minus, one) };
        let (is_first, is_equal) =
            (self.builder.op(first, &[left, right]), self.builder.op(equal, &[left, right]));
        let inner = self.builder.op(Opcode::Select, &[is_equal, zero, otherwise]);
        self.builder.op(Opcode::Select, &[is_first, on_first, inner])
    }

    fn call(&mut self, node: &Sexp, ty: Type) -> Result<Node, Reject> {
        let Some(native) =
            node.keys.get("address").and_then(|address| self.tril.natives.get(address)).copied()
        else {
            return not_scalar("a call of an unknown address");
        };
        let args = self.children(node)?;
        let signature = self.builder.module().native_signature(native);
        if signature.outcome() != ty || signature.params.len() != args.len() {
            return malformed("a call does not fit its callee");
        }
        Ok(self.builder.call_native(native, &args))
    }
}

/// The conversion that a name such as `i2l`, `bu2i`, `d2f` or `fbits2i` stands for, its operand's type and its result's.
fn conversion(name: &str) -> Option<(Opcode, Type, Type)> {
    let (from, to) = name.split_once('2')?;
    let [to] = to.chars().collect::<Vec<_>>()[..] else { return None };
    let (letter, kind) = from.split_at_checked(1)?;
    let (from, to) = (type_of_letter(letter.chars().next()?)?, type_of_letter(to)?);
    let opcode = match (kind, from.is_float(), to.is_float()) {
        ("bits", ..) => Opcode::Bitcast,
        ("", false, false) if from.bits() > to.bits() => Opcode::Wrap,
        ("", false, false) => Opcode::SExt,
        ("u", false, false) if from.bits() < to.bits() => Opcode::UExt,
        ("", false, true) => Opcode::SIntToFloat,
        ("u", false, true) => Opcode::UIntToFloat,
        ("", true, false) => Opcode::FloatToSInt,
        ("", true, true) if from.bits() < to.bits() => Opcode::FPromote,
        ("", true, true) => Opcode::FDemote,
        _ => return None,
    };
    Some((opcode, from, to))
}
