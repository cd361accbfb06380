//! Declarations: one reading for the names, one for what they stand for.
//!
//! Anything may refer to anything, before or after its own line. So the first reading only gives every name its index,
//! in order of appearance, and remembers where each item begins; the second reads the items and leaves out the bodies,
//! whose beginnings it remembers in turn.

use std::borrow::Cow;
use std::collections::HashMap;

use super::cursor::{Cursor, Names, nearest, perhaps, shown};
use super::lex::{Kind, Token};
use super::words::{self, KIND_SETS};
use super::{ParseError, Position};
use crate::entity::Entity;
use crate::module::*;
use crate::raise::{KindSet, RaiseKind};
use crate::types::Type;

/// The names of everything that is declared.
pub(super) struct Globals<'s> {
    pub(super) classes: Names<'s>,
    pub(super) symbols: Names<'s>,
    pub(super) methods: Names<'s>,
    pub(super) natives: Names<'s>,
    /// The slots of each class by name.
    slots: HashMap<(ClassId, Cow<'s, str>), u32>,
}

impl<'s> Globals<'s> {
    /// `@name`, of a class.
    pub(super) fn class(&self, cursor: &mut Cursor<'s>) -> Result<ClassId, ParseError> {
        let name = cursor.expect(Kind::Global, "the name of a class: `@` and a name")?;
        self.classes.find(name, cursor)
    }

    /// `@name`, of a symbol.
    pub(super) fn symbol(&self, cursor: &mut Cursor<'s>) -> Result<SymbolId, ParseError> {
        let name = cursor.expect(Kind::Global, "the name of a symbol: `@` and a name")?;
        self.symbols.find(name, cursor)
    }

    /// `@name`, of a method.
    pub(super) fn method(&self, cursor: &mut Cursor<'s>) -> Result<MethodId, ParseError> {
        let name = cursor.expect(Kind::Global, "the name of a method: `@` and a name")?;
        self.methods.find(name, cursor)
    }

    /// `@name`, of a native function.
    pub(super) fn native(&self, cursor: &mut Cursor<'s>) -> Result<NativeId, ParseError> {
        let name = cursor.expect(Kind::Global, "the name of a native function: `@` and a name")?;
        self.natives.find(name, cursor)
    }

    /// The index of a slot of `class` that `slot` names or numbers.
    pub(super) fn slot(
        &self,
        class: ClassId,
        slot: Token<'s>,
        module: &Module,
        cursor: &Cursor<'s>,
    ) -> Result<u32, ParseError> {
        let slots = &module.classes[class].slots;
        let found = match slot.kind {
            Kind::Number => {
                u32::try_from(cursor.unsigned(slot)?).ok().filter(|index| (*index as usize) < slots.len())
            }
            _ => self.slots.get(&(class, slot.name())).copied(),
        };
        found.ok_or_else(|| {
            let similar = nearest(&slot.name(), slots.iter().map(|decl| decl.name.as_str()));
            let class = shown(&format!("@{}", module.classes[class].name));
            let expected = format_args!("one of its {} slots{}", slots.len(), perhaps(similar)).to_string();
            cursor.error_at(slot, format_args!("{class} has no slot {}", shown(slot.text)), expected)
        })
    }
}

/// Where the names of declarations stand, by index.
#[derive(Default)]
pub(super) struct Positions {
    pub(super) classes: Vec<Position>,
    pub(super) symbols: Vec<Position>,
    pub(super) methods: Vec<Position>,
    pub(super) natives: Vec<Position>,
}

/// A method whose body is still to be read.
#[derive(Clone)]
pub(super) struct BodyStart<'s> {
    pub(super) id: MethodId,
    /// Before the first token of the body.
    pub(super) cursor: Cursor<'s>,
    /// The line with the name.
    pub(super) header: Token<'s>,
    /// The parameters' names and types.
    pub(super) params: Vec<(Token<'s>, Type)>,
}

/// A slot's method for an interface whose slots may not have been read yet.
struct Pending<'s> {
    class: ClassId,
    interface: ClassId,
    slot: Token<'s>,
    method: MethodId,
}

/// The declarations of a source.
pub(super) struct Declarations<'s> {
    pub(super) module: Module,
    pub(super) globals: Globals<'s>,
    pub(super) bodies: Vec<BodyStart<'s>>,
    pub(super) positions: Positions,
    pending: Vec<Pending<'s>>,
    has_body: Vec<bool>,
}

impl<'s> Declarations<'s> {
    /// Reads the declarations of a source.
    pub(super) fn read(source: &'s str) -> Result<Declarations<'s>, ParseError> {
        let mut this = Declarations {
            module: Module::new(),
            globals: Globals {
                classes: Names::of_declarations("class"),
                symbols: Names::of_declarations("symbol"),
                methods: Names::of_declarations("method"),
                natives: Names::of_declarations("native function"),
                slots: HashMap::new(),
            },
            bodies: Vec::new(),
            positions: Positions::default(),
            pending: Vec::new(),
            has_body: Vec::new(),
        };
        for mut item in this.names(Cursor::new(source)?)? {
            this.item(&mut item)?;
        }
        let last = Cursor::new(source)?;
        for Pending { class, interface, slot, method } in std::mem::take(&mut this.pending) {
            let slot = this.globals.slot(interface, slot, &this.module, &last)?;
            this.module.classes[class].implementations.push(Implementation { interface, slot, method });
        }
        Ok(this)
    }

    /// The first reading: gives names their indexes, and where the items begin.
    fn names(&mut self, mut cursor: Cursor<'s>) -> Result<Vec<Cursor<'s>>, ParseError> {
        let mut items = Vec::new();
        while cursor.next_line().kind != Kind::End {
            cursor.begin_line();
            items.push(cursor);
            let (globals, positions) = (&mut self.globals, &mut self.positions);
            let keyword = cursor.expect(Kind::Word, words::ITEMS)?;
            let (names, positions) = match keyword.text {
                "signature" => {
                    skip_item(&mut cursor)?;
                    continue;
                }
                "class" | "interface" => (&mut globals.classes, &mut positions.classes),
                "symbol" => (&mut globals.symbols, &mut positions.symbols),
                "native" => (&mut globals.natives, &mut positions.natives),
                "method" => (&mut globals.methods, &mut positions.methods),
                _ => return Err(cursor.wrong(keyword, words::ITEMS)),
            };
            let name = cursor.expect(Kind::Global, "`@` and a name")?;
            let is_new = match keyword.text {
                "method" => names.insert(name, &cursor)?.1,
                _ => names.insert_new(name, &cursor).map(|_| true)?,
            };
            if is_new {
                positions.push(name.place.position);
            }
            skip_item(&mut cursor)?;
        }
        Ok(items)
    }

    /// Reads one item.
    fn item(&mut self, cursor: &mut Cursor<'s>) -> Result<(), ParseError> {
        let keyword = cursor.take()?;
        match keyword.text {
            "signature" => {
                signature(cursor, &mut self.module)?;
            }
            "symbol" => self.symbol(cursor)?,
            "native" => {
                let name = cursor.take()?;
                let signature = signature(cursor, &mut self.module)?;
                let effects = self.effects(cursor)?.unwrap_or_default();
                self.module.natives.push(NativeDecl { name: name.name().into(), signature, effects });
            }
            "method" => return self.method(cursor),
            word => return self.class(cursor, word == "interface"),
        }
        cursor.expect_line_end()
    }

    /// `symbol @name kind [from n to m] [readonly]`
    fn symbol(&mut self, cursor: &mut Cursor<'s>) -> Result<(), ParseError> {
        let name = cursor.take()?.name().into();
        let word = cursor.expect(Kind::Word, words::SYMBOL_KINDS)?;
        let kind = match word.text {
            "static" => SymbolKind::Static(cursor.ty()?),
            "field" => {
                let class = self.globals.class(cursor)?;
                let offset = cursor.number("the field's offset", u32::MAX)?;
                SymbolKind::Field { class, offset, ty: cursor.ty()? }
            }
            "element" => SymbolKind::Element(cursor.ty()?),
            "region" => SymbolKind::Region,
            "opaque" => SymbolKind::Opaque,
            _ => return Err(cursor.wrong(word, words::SYMBOL_KINDS)),
        };
        let range = if cursor.eat_word("from")? {
            let min = cursor.number("the smallest integer", u64::MAX)?;
            cursor.expect_word("to")?;
            Some((min, cursor.number("the largest integer", u64::MAX)?))
        } else {
            None
        };
        let is_readonly = cursor.eat_word("readonly")?;
        self.module.symbols.push(SymbolData { name, kind, is_readonly, range });
        Ok(())
    }

    /// `class @name [extends @C] [implements @I, @J] [size n] [{ … }]`
    fn class(&mut self, cursor: &mut Cursor<'s>, is_interface: bool) -> Result<(), ParseError> {
        let name = cursor.take()?.name().into();
        let superclass = match cursor.eat_word("extends")? {
            true => Some(self.globals.class(cursor)?),
            false => None,
        };
        let mut interfaces = Vec::new();
        if cursor.eat_word("implements")? {
            interfaces.push(self.globals.class(cursor)?);
            while cursor.eat_sign(',')? {
                interfaces.push(self.globals.class(cursor)?);
            }
        }
        let size_bytes = match cursor.eat_word("size")? {
            true => cursor.number("the size in bytes", u32::MAX)?,
            false => 0,
        };
        let (slots, implementations) = (Vec::new(), Vec::new());
        let data =
            ClassData { name, superclass, interfaces, is_interface, size_bytes, slots, implementations };
        let class = self.module.classes.push(data);
        if cursor.eat_sign('{')? {
            cursor.expect_line_end()?;
            self.class_lines(class, cursor)?;
        }
        cursor.expect_line_end()
    }

    /// The lines between a class's braces, and the closing one.
    fn class_lines(&mut self, class: ClassId, cursor: &mut Cursor<'s>) -> Result<(), ParseError> {
        const EXPECTED: &str = "`slot`, `implement` or `}`";
        loop {
            cursor.begin_line();
            if cursor.eat_sign('}')? {
                return Ok(());
            }
            let word = cursor.expect(Kind::Word, EXPECTED)?;
            match word.text {
                "slot" => {
                    let name = slot_token(cursor)?;
                    if name.kind == Kind::Number {
                        return Err(cursor.error_at(
                            name,
                            "a number names no slot",
                            "a word, or any text in quotes",
                        ));
                    }
                    let signature = signature(cursor, &mut self.module)?;
                    let method = match cursor.eat_sign('=')? {
                        true => Some(self.globals.method(cursor)?),
                        false => None,
                    };
                    let slots = &mut self.module.classes[class].slots;
                    let index = u32::try_from(slots.len()).unwrap_or(u32::MAX);
                    slots.push(SlotDecl { name: name.name().into(), signature, method });
                    if self.globals.slots.insert((class, name.name()), index).is_some() {
                        let what = format_args!("a slot named {} stands above already", shown(name.text));
                        return Err(cursor.error_at(name, what, "another name in this class"));
                    }
                }
                "implement" => {
                    let interface = self.globals.class(cursor)?;
                    cursor.expect_sign('.')?;
                    let slot = slot_token(cursor)?;
                    cursor.expect_sign('=')?;
                    let method = self.globals.method(cursor)?;
                    self.pending.push(Pending { class, interface, slot, method });
                }
                _ => return Err(cursor.wrong(word, EXPECTED)),
            }
            cursor.expect_line_end()?;
        }
    }

    /// `method @name (types) -> (types) effects`, or with named parameters and a body.
    fn method(&mut self, cursor: &mut Cursor<'s>) -> Result<(), ParseError> {
        let header = cursor.take()?;
        let id: MethodId = self.globals.methods.find(header, cursor)?;
        let (mut param_types, mut params) = (Vec::new(), Vec::new());
        let open = cursor.here();
        cursor.expect_sign('(')?;
        while cursor.has_item(')', param_types.len())? {
            let name = cursor.here();
            if name.kind == Kind::Local {
                cursor.take()?;
                cursor.expect_sign(':')?;
            }
            let ty = cursor.ty()?;
            param_types.push(ty);
            if name.kind == Kind::Local {
                params.push((name, ty));
            }
        }
        cursor.expect_arrow()?;
        let results = types(cursor)?;
        let signature = self.module.signature(&param_types, &results);
        let effects = self.effects(cursor)?;
        let is_new = id.index() == self.module.methods.len();
        if is_new {
            let effects = effects.clone().unwrap_or_default();
            self.module.methods.push(MethodDecl { name: header.name().into(), signature, effects });
            self.has_body.push(false);
        }
        let declared = &self.module.methods[id];
        if declared.signature != signature || effects.is_some_and(|effects| effects != declared.effects) {
            let what = format_args!(
                "{} is declared above with another signature or other effects",
                shown(header.text)
            );
            return Err(cursor.error_at(header, what, "the same in both places"));
        }
        if !cursor.eat_sign('{')? {
            if !is_new {
                let what = format_args!("{} is declared above already", shown(header.text));
                return Err(cursor.error_at(header, what, "a body after its header, or another name"));
            }
            return cursor.expect_line_end();
        }
        if params.len() != param_types.len() {
            return Err(cursor.error_at(
                open,
                "a parameter has no name",
                "`$name: type` for every parameter of a body",
            ));
        }
        if std::mem::replace(&mut self.has_body[id.index()], true) {
            let what = format_args!("{} has a body above already", shown(header.text));
            return Err(cursor.error_at(header, what, "one body for each method"));
        }
        cursor.expect_line_end()?;
        self.bodies.push(BodyStart { id, cursor: *cursor, header, params });
        Ok(())
    }

    /// `reads set writes set raises kinds [yields]`, or nothing.
    fn effects(&self, cursor: &mut Cursor<'s>) -> Result<Option<CallEffects>, ParseError> {
        if !cursor.eat_word("reads")? {
            return Ok(None);
        }
        let reads = self.memory_set(cursor)?;
        cursor.expect_word("writes")?;
        let writes = self.memory_set(cursor)?;
        cursor.expect_word("raises")?;
        let raises = kind_set(cursor)?;
        let yields = cursor.eat_word("yields")?;
        Ok(Some(CallEffects { reads, writes, raises, yields }))
    }

    /// `none`, `all` or `[@symbol, …]`
    fn memory_set(&self, cursor: &mut Cursor<'s>) -> Result<MemorySet, ParseError> {
        if cursor.eat_word("none")? {
            return Ok(MemorySet::None);
        }
        if cursor.eat_word("all")? {
            return Ok(MemorySet::All);
        }
        if !cursor.is_sign('[') {
            return Err(cursor.unexpected("`none`, `all` or `[` and symbols"));
        }
        let mut symbols = Vec::new();
        cursor.expect_sign('[')?;
        while cursor.has_item(']', symbols.len())? {
            symbols.push(self.globals.symbol(cursor)?);
        }
        symbols.sort();
        symbols.dedup();
        Ok(MemorySet::Symbols(symbols))
    }
}

/// Steps to the line after an item, over its braces if it has any.
fn skip_item(cursor: &mut Cursor<'_>) -> Result<(), ParseError> {
    let mut is_inside = false;
    loop {
        let here = cursor.here();
        match here.kind {
            Kind::Sign('{') if is_inside => return Err(cursor.unexpected("`}` before the next `{`")),
            Kind::Sign('{') => is_inside = true,
            Kind::Sign('}') if is_inside => is_inside = false,
            Kind::Sign('}') => return Err(cursor.unexpected("an opening brace before the closing one")),
            Kind::LineEnd if cursor.next_line().kind == Kind::End => {
                return match is_inside {
                    true => Err(cursor.error_at(cursor.next_line(), "the source ends", "`}`")),
                    false => Ok(()),
                };
            }
            Kind::LineEnd if is_inside => {
                cursor.begin_line();
                continue;
            }
            Kind::LineEnd => return Ok(()),
            _ => {}
        }
        cursor.take()?;
    }
}

/// `(type, type)`
fn types(cursor: &mut Cursor<'_>) -> Result<Vec<Type>, ParseError> {
    let mut types = Vec::new();
    cursor.expect_sign('(')?;
    while cursor.has_item(')', types.len())? {
        types.push(cursor.ty()?);
    }
    Ok(types)
}

/// `(types) -> (types)`
pub(super) fn signature(cursor: &mut Cursor<'_>, module: &mut Module) -> Result<SignatureId, ParseError> {
    let params = types(cursor)?;
    cursor.expect_arrow()?;
    let results = types(cursor)?;
    Ok(module.signature(&params, &results))
}

/// `kind|kind`, or the name of a set.
pub(super) fn kind_set(cursor: &mut Cursor<'_>) -> Result<KindSet, ParseError> {
    for (word, set) in KIND_SETS {
        if cursor.eat_word(word)? {
            return Ok(*set);
        }
    }
    let mut kinds = KindSet::one(kind(cursor)?);
    while cursor.eat_sign('|')? {
        kinds = kinds.union(KindSet::one(kind(cursor)?));
    }
    Ok(kinds)
}

/// The name of a kind.
pub(super) fn kind(cursor: &mut Cursor<'_>) -> Result<RaiseKind, ParseError> {
    let here = cursor.here();
    match here.text.parse() {
        Ok(kind) if here.kind == Kind::Word => cursor.take().map(|_| kind),
        _ => {
            let names: Vec<&str> = RaiseKind::ALL.iter().map(|kind| kind.name()).collect();
            Err(cursor.unexpected(format_args!("a kind of raise: one of {}", names.join(", "))))
        }
    }
}

/// A slot of a class's table: its name, quoted unless it is a word, or its number.
pub(super) fn slot_token<'s>(cursor: &mut Cursor<'s>) -> Result<Token<'s>, ParseError> {
    match cursor.here().kind {
        Kind::Word | Kind::Quoted | Kind::Number => cursor.take(),
        _ => Err(cursor.unexpected("a slot: its name (in quotes unless it is a word) or its number")),
    }
}
