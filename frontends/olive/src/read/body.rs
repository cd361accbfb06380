//! Bodies: variables, handlers, labels and operations.

use super::*;

/// Operations that are one word.
const WORDS: &[(&str, Op)] = &[
    ("null", Op::Null),
    ("pop", Op::Pop),
    ("dup", Op::Dup),
    ("swap", Op::Swap),
    ("length", Op::Length),
    ("return", Op::Return),
    ("throw", Op::Throw),
    ("lock", Op::Lock),
    ("unlock", Op::Unlock),
];

/// Passes over a body in braces.
pub(super) fn skip(cursor: &mut Cursor<'_, '_>) -> Result<()> {
    cursor.expect("{")?;
    let mut depth = 1;
    while depth > 0 {
        match cursor.here().text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if cursor.here().kind == Kind::End => return Err(cursor.wrong("`}`")),
            _ => {}
        }
        cursor.take();
    }
    Ok(())
}

/// What is known of a body while it is read.
struct Body<'s> {
    method: Method,
    locals: HashMap<String, u16>,
    labels: HashMap<&'s str, LabelId>,
    /// By label: where it was first named, and whether it has been placed.
    named: Vec<(Token<'s>, bool)>,
}

impl<'s> Body<'s> {
    /// Takes the name of a label, which may stand further down.
    fn label(&mut self, cursor: &mut Cursor<'_, 's>) -> Result<LabelId> {
        let token = cursor.word("the name of a label")?;
        let next = LabelId(self.named.len() as u32);
        let label = *self.labels.entry(token.text).or_insert(next);
        if label == next {
            bound(token.place, "labels", self.named.len() + 1, MAX_CODE)?;
            self.named.push((token, false));
            let name = token.text.into();
            self.method.labels.push(Label { name, at: 0, stack: Vec::new(), locks: 0 });
        }
        Ok(label)
    }

    /// Gives the next local its name.
    fn name_local(&mut self, place: Position, name: &str) -> Result<()> {
        let index = self.locals.len();
        bound(place, "parameters and variables", index + 1, MAX_LOCALS)?;
        match self.locals.insert(name.into(), index as u16) {
            None => Ok(()),
            Some(_) => {
                let what = format!("there are two variables or parameters `{name}`");
                Err(Error::new(place, what, "a name of its own for each"))
            }
        }
    }
}

impl<'t, 's> Reader<'t, 's> {
    /// Reads the body of a method.
    pub(super) fn body(&mut self, id: MethodId, mut cursor: Cursor<'t, 's>) -> Result<()> {
        let method = self.program.methods[id].clone();
        let mut body = Body { method, locals: HashMap::new(), labels: HashMap::new(), named: Vec::new() };
        let cursor = &mut cursor;
        for index in 0..body.method.params {
            let name = body.method.locals[index].name.clone();
            body.name_local(cursor.here().place, &name)?;
        }
        cursor.expect("{")?;
        while cursor.is("var") {
            cursor.take();
            let name = cursor.word("a variable's name")?;
            let ty = self.ty(cursor)?;
            body.name_local(name.place, name.text)?;
            body.method.locals.push(Local { name: name.text.into(), ty });
        }
        let mut ranges = Vec::new();
        while cursor.is("catch") {
            let place = cursor.take().place;
            bound(place, "handlers", ranges.len() + 1, MAX_HANDLERS)?;
            let class = self.class_name(cursor)?;
            cursor.expect("from")?;
            let from = body.label(cursor)?;
            cursor.expect("to")?;
            let to = body.label(cursor)?;
            cursor.expect("at")?;
            ranges.push((place, class, from, to, body.label(cursor)?));
        }
        while !cursor.is("}") {
            if cursor.is_followed_by(":") {
                self.place_label(&mut body, cursor)?;
                continue;
            }
            bound(cursor.here().place, "operations", body.method.code.len() + 1, MAX_CODE)?;
            let place = cursor.here().place;
            let op = self.operation(&mut body, cursor)?;
            body.method.code.push(op);
            body.method.places.push(place);
        }
        body.method.places.push(cursor.here().place);
        if let Some((token, _)) = body.named.iter().find(|(_, is_placed)| !is_placed) {
            return Err(wrong(*token, "the name of a label that is placed in this method"));
        }
        let at = |label: LabelId| body.method.labels[label.0 as usize].at;
        let handlers = ranges.into_iter();
        let handlers = handlers.map(|(place, class, from, to, target)| Handler {
            place,
            class,
            from: at(from),
            to: at(to),
            target,
        });
        body.method.handlers = handlers.collect();
        self.program.methods[id] = body.method;
        Ok(())
    }

    fn place_label(&self, body: &mut Body<'s>, cursor: &mut Cursor<'t, 's>) -> Result<()> {
        let token = cursor.here();
        let label = body.label(cursor)?;
        cursor.expect(":")?;
        let stack = if cursor.is("(") { self.types(cursor)? } else { Vec::new() };
        let locks = if cursor.eat("locks") {
            cursor.number("a number below 256", |text| text.parse::<u8>().ok())?
        } else {
            0
        };
        let is_placed = &mut body.named[label.0 as usize].1;
        if std::mem::replace(is_placed, true) {
            return Err(wrong(token, "another name: this label is placed above"));
        }
        let at = body.method.code.len() as u32;
        let data = &mut body.method.labels[label.0 as usize];
        (data.at, data.stack, data.locks) = (at, stack, locks.into());
        Ok(())
    }

    fn operation(&self, body: &mut Body<'s>, cursor: &mut Cursor<'t, 's>) -> Result<Op> {
        let token = cursor.word("an operation, a label or `}`")?;
        if let Some((_, op)) = WORDS.iter().find(|(word, _)| *word == token.text) {
            return Ok(op.clone());
        }
        if let Some((_, op)) = Unary::ALL.iter().find(|(word, _)| *word == token.text) {
            return Ok(Op::Unary(*op));
        }
        if let Some((_, op)) = Binary::ALL.iter().find(|(word, _)| *word == token.text) {
            return Ok(Op::Binary(*op));
        }
        if let Some((_, op)) = Compare::ALL.iter().find(|(word, _)| *word == token.text) {
            return Ok(Op::Compare(*op));
        }
        Ok(match token.text {
            "int" => Op::Int(cursor.number("a number of 32 bits", int)?),
            "long" => Op::Long(cursor.number("a number of 64 bits", long)?),
            "double" => Op::Double(
                cursor
                    .number("a number: digits, perhaps a point and an exponent, or `inf`, `nan`", double)?,
            ),
            "load" => Op::Load(self.local(body, cursor)?),
            "store" => Op::Store(self.local(body, cursor)?),
            "jump" => Op::Jump(body.label(cursor)?),
            "if" => Op::If(body.label(cursor)?),
            "ifnot" => Op::IfNot(body.label(cursor)?),
            "switch" => {
                let cases = cursor.list(("[", "]"), |cursor| {
                    let value = cursor.number("a number of 32 bits", int)?;
                    cursor.expect(":")?;
                    Ok((value, body.label(cursor)?))
                })?;
                cursor.expect("else")?;
                Op::Switch(cases.into(), body.label(cursor)?)
            }
            "get" | "put" if cursor.is("[") => {
                cursor.take();
                cursor.expect("]")?;
                if token.text == "get" { Op::GetElement } else { Op::PutElement }
            }
            "new" => Op::New(self.class_name(cursor)?),
            "instanceof" => Op::InstanceOf(self.class_name(cursor)?),
            "cast" => Op::Cast(self.class_name(cursor)?),
            "newarray" => Op::NewArray(self.element(cursor)?),
            "get" | "put" | "getstatic" | "putstatic" | "call" | "virtual" | "interface" => {
                self.member_operation(token, cursor)?
            }
            "native" => {
                let name = cursor.word("the name of a native")?;
                let found = self.natives.get(name.text).copied();
                Op::Native(
                    found.ok_or_else(|| wrong(name, "the name of a native that the program declares"))?,
                )
            }
            _ => return Err(wrong(token, "an operation, a label or `}`")),
        })
    }

    fn local(&self, body: &Body<'s>, cursor: &mut Cursor<'t, 's>) -> Result<u16> {
        let token = cursor.word("the name of a variable or parameter")?;
        let local = body.locals.get(token.text).copied();
        local.ok_or_else(|| wrong(token, "the name of a variable or parameter of this method"))
    }

    /// An operation that names a member of a class.
    fn member_operation(&self, op: Token<'s>, cursor: &mut Cursor<'t, 's>) -> Result<Op> {
        let class = self.class_name(cursor)?;
        cursor.expect(".")?;
        let name = cursor.word("the name of a member")?;
        let none = |what: &str| wrong(name, format!("{what} of `{}`", self.program.classes[class].name));
        Ok(match op.text {
            "get" | "put" | "getstatic" | "putstatic" => {
                let is_static = op.text.ends_with("static");
                let member =
                    self.above_by_name(class, |class| self.members.get(&(class, name.text)).copied());
                let fits = |id: &il::SymbolId| self.program.members[*id].offset.is_none() == is_static;
                let what = if is_static { "the name of a static" } else { "the name of a field" };
                let member = member.filter(fits).ok_or_else(|| none(what))?;
                match op.text {
                    "get" => Op::Get(member),
                    "put" => Op::Put(member),
                    "getstatic" => Op::GetStatic(member),
                    _ => Op::PutStatic(member),
                }
            }
            "call" => {
                let method =
                    self.above_by_name(class, |class| self.methods.get(&(class, name.text)).copied());
                Op::Call(method.ok_or_else(|| none("the name of a method with a body"))?)
            }
            "virtual" if !self.program.classes[class].is_interface => Op::Virtual(
                self.dispatch(class, name).ok_or_else(|| none("the name of a method with a receiver"))?,
            ),
            "interface" if self.program.classes[class].is_interface => {
                let above = self.program.classes[class].ancestors.iter().rev();
                let found = above.copied().find_map(|interface| self.dispatch(interface, name));
                Op::Interface(found.ok_or_else(|| none("the name of a method"))?)
            }
            "virtual" => return Err(wrong(op, "`interface` for a method of an interface")),
            _ => return Err(wrong(op, "`virtual` or `call` for a method of a class")),
        })
    }

    /// What a class has under a name, or the nearest class above it.
    fn above_by_name<T>(&self, class: ClassId, find: impl Fn(ClassId) -> Option<T>) -> Option<T> {
        let superclass = |class: &ClassId| self.program.classes[*class].superclass;
        std::iter::successors(Some(class), superclass).find_map(find)
    }

    fn dispatch(&self, class: ClassId, name: Token<'s>) -> Option<Dispatch> {
        let slot = self.program.classes[class].slots.iter().position(|slot| slot.name == name.text)?;
        Some(Dispatch { class, slot: slot as u32 })
    }
}

/// An integer of 32 bits, decimal or by its bits.
fn int(text: &str) -> Option<i32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok().map(|bits| bits as i32),
        None => text.parse().ok(),
    }
}

/// An integer of 64 bits, decimal or by its bits.
fn long(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|bits| bits as i64),
        None => text.parse().ok(),
    }
}

fn double(text: &str) -> Option<f64> {
    match text {
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        "nan" => Some(f64::NAN),
        _ if text.bytes().any(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}
