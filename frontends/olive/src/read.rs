//! The reader: from text to a program.
//!
//! ```text
//!   tokens ──► names of classes ──► classes in order: fields, slots, what stands for interfaces ──► bodies ──► verify
//! ```
//!
//! # Grammar
//!
//! Line ends mean nothing. Everything may be referred to before its place, but a class stands behind what it extends and
//! implements. `x?` may be missing, `x*` is a list, with commas where brackets show it.
//!
//! ```text
//!   program   = (class | interface | native)*
//!   native    = native name (type*) type?                              ; a function of the host
//!   interface = interface Name (extends Name*)? { (method name (type*) type?)* }
//!   class     = abstract? class Name (extends Name)? (implements Name*)? { member* }
//!   member    = static? field name type
//!             | abstract method name (type*) type?
//!             | static? method name (name type*) type? { var* handler* code }
//!   var       = var name type                        handler = catch Class from label to label at label
//!   type      = int | long | double | Name | element[]                 element = byte | int | long | double | Name
//!   code      = (label: (type*)? (locks n)? | operation)*              ; behind a label: the stack and the monitors there
//! ```
//!
//! An instance method's receiver is `this`. A method named `init` is found by `call` alone, as static methods are: a
//! constructor. The operations, and what they mean, are [`Op`]; as text:
//!
//! ```text
//!   int 5   long -5   double 1.5   null   load x   store x   pop   dup   swap   neg to_int … add sub … eq ne …
//!   jump a   if a   ifnot a   switch [0: a, 1: b] else c   return   throw   lock   unlock
//!   new C   get C.f   put C.f   getstatic C.f   putstatic C.f   instanceof C   cast C
//!   newarray int   length   get[]   put[]   call C.m   virtual C.m   interface I.m   native f
//! ```
//!
//! # Guarantees
//!
//! Whatever the source holds, reading ends: with a program, or with an error that says where and what would be right. Nothing
//! recurses, and all that grows has a limit below.

mod body;
mod class;

use std::collections::HashMap;

use dagwood_il as il;
use il::entity::{Entity, EntityVec};
use il::text::Position;
use il::world::ContentKey;
use il::{ClassId, MethodId};

use crate::error::{Error, Result};
use crate::lex::{Kind, Token, tokens};
use crate::program::*;
use crate::verify::verify;

/// The bytes that a source may have.
pub const MAX_SOURCE_BYTES: usize = 1 << 24;
/// The classes that a program may have, those of the prelude included.
pub const MAX_CLASSES: usize = 1 << 14;
/// The methods in the table of a class.
pub const MAX_SLOTS: usize = 1 << 12;
/// The entries that the tables of all classes may have together.
pub const MAX_ENTRIES: usize = 1 << 18;
/// The bytes of an object.
pub const MAX_OBJECT_BYTES: usize = 1 << 16;
/// The parameters and variables of a method: as many as a word has bits, which is what liveness is kept in.
pub const MAX_LOCALS: usize = 64;
/// The operations, and the labels, of a method.
pub const MAX_CODE: usize = 1 << 16;
/// The handlers of a method.
pub const MAX_HANDLERS: usize = 1 << 8;
/// The parameters of a function, and the values that a label says are on the stack.
pub const MAX_TYPES: usize = 60;

/// The name of constructors.
pub(crate) const INIT: &str = "init";

const PRELUDE: &str = include_str!("prelude.olive");

impl Program {
    /// Reads, links and verifies a program.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn read(source: &str) -> std::result::Result<Program, Box<Error>> {
        if source.len() > MAX_SOURCE_BYTES {
            let what = format!("the source has {} bytes", source.len());
            return Err(Error::new(Position::START, what, format!("at most {MAX_SOURCE_BYTES}")));
        }
        let (prelude, own) = (tokens(PRELUDE)?, tokens(source)?);
        let mut reader = Reader::new(ContentKey::of(source.as_bytes()));
        reader.name_classes(&prelude)?;
        reader.name_classes(&own)?;
        reader.declarations(&prelude)?;
        reader.declarations(&own)?;
        let bodies = std::mem::take(&mut reader.bodies);
        for (id, cursor) in bodies {
            reader.body(id, cursor)?;
        }
        for method in reader.program.methods.values() {
            verify(&reader.program, method)?;
        }
        Ok(reader.program)
    }
}

/// A position between two tokens.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'t, 's> {
    tokens: &'t [Token<'s>],
}

impl<'t, 's> Cursor<'t, 's> {
    fn here(&self) -> Token<'s> {
        self.tokens[0]
    }

    fn take(&mut self) -> Token<'s> {
        let token = self.tokens[0];
        if token.kind != Kind::End {
            self.tokens = &self.tokens[1..];
        }
        token
    }

    fn is(&self, text: &str) -> bool {
        self.here().text == text && self.here().kind != Kind::End
    }

    fn is_followed_by(&self, text: &str) -> bool {
        self.tokens.get(1).is_some_and(|next| next.text == text)
    }

    fn eat(&mut self, text: &str) -> bool {
        let is_here = self.is(text);
        if is_here {
            self.take();
        }
        is_here
    }

    fn wrong(&self, expected: impl Into<String>) -> Box<Error> {
        wrong(self.here(), expected)
    }

    fn expect(&mut self, text: &str) -> Result<()> {
        if self.eat(text) { Ok(()) } else { Err(self.wrong(format!("`{text}`"))) }
    }

    fn word(&mut self, expected: &str) -> Result<Token<'s>> {
        if self.here().kind == Kind::Word { Ok(self.take()) } else { Err(self.wrong(expected)) }
    }

    /// A number, as `read` understands it.
    fn number<T>(&mut self, expected: &str, read: impl Fn(&str) -> Option<T>) -> Result<T> {
        let found = read(self.here().text);
        match found {
            Some(number) => {
                self.take();
                Ok(number)
            }
            None => Err(self.wrong(expected)),
        }
    }

    /// Things in brackets with commas between them.
    fn list<T>(
        &mut self,
        (open, close): (&str, &str),
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.eat(close) {
            if !items.is_empty() && !self.eat(",") {
                return Err(self.wrong(format!("`,` or `{close}`")));
            }
            items.push(item(self)?);
        }
        Ok(items)
    }
}

/// The error that a token is not what it should be.
fn wrong(token: Token<'_>, expected: impl Into<String>) -> Box<Error> {
    let shown: String = token.text.chars().take(40).collect();
    let what = if token.kind == Kind::End { "the source ends".into() } else { format!("found `{shown}`") };
    Error::new(token.place, what, expected)
}

/// Fails where something has more parts than it may.
fn bound(place: Position, what: &str, count: usize, limit: usize) -> Result<()> {
    if count <= limit {
        Ok(())
    } else {
        Err(Error::new(place, format!("too many {what}"), format!("at most {limit}")))
    }
}

/// Reads a program.
struct Reader<'t, 's> {
    program: Program,
    class_ids: HashMap<&'s str, ClassId>,
    /// The entries of all tables so far.
    entries: usize,
    /// By class and name.
    members: HashMap<(ClassId, &'s str), il::SymbolId>,
    methods: HashMap<(ClassId, &'s str), MethodId>,
    natives: HashMap<&'s str, il::NativeId>,
    /// Methods, and where their bodies begin.
    bodies: Vec<(MethodId, Cursor<'t, 's>)>,
}

impl<'t, 's> Reader<'t, 's> {
    fn new(content: ContentKey) -> Reader<'t, 's> {
        let known = Known { object: ClassId::new(0), faults: Vec::new(), fault_of: MethodId::new(0) };
        Reader {
            program: Program {
                classes: EntityVec::new(),
                members: EntityVec::new(),
                methods: EntityVec::new(),
                natives: EntityVec::new(),
                known,
                content,
            },
            class_ids: HashMap::new(),
            entries: 0,
            members: HashMap::new(),
            methods: HashMap::new(),
            natives: HashMap::new(),
            bodies: Vec::new(),
        }
    }

    /// Gives every class of a source its index. A class is what stands behind its word outside of all braces.
    fn name_classes(&mut self, tokens: &[Token<'s>]) -> Result<()> {
        let mut depth = 0_usize;
        for pair in tokens.windows(2) {
            match pair[0].text {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                "class" | "interface" if depth == 0 && pair[1].kind == Kind::Word => {
                    let id = ClassId::new(self.class_ids.len());
                    bound(pair[1].place, "classes", self.class_ids.len() + 1, MAX_CLASSES)?;
                    let name = pair[1].text;
                    let is_taken = ["int", "long", "double", "byte", "null"].contains(&name);
                    if is_taken || self.class_ids.insert(name, id).is_some() {
                        let what = format!("`{name}` is the name of another type");
                        return Err(Error::new(pair[1].place, what, "a name of its own"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn declarations(&mut self, tokens: &'t [Token<'s>]) -> Result<()> {
        let mut cursor = Cursor { tokens };
        while cursor.here().kind != Kind::End {
            match cursor.here().text {
                "native" => self.native(&mut cursor)?,
                "interface" => self.interface(&mut cursor)?,
                "class" | "abstract" => self.class(&mut cursor)?,
                _ => return Err(cursor.wrong("`class`, `abstract`, `interface` or `native`")),
            }
        }
        if self.program.known.faults.is_empty() {
            let class = |name: &str| self.class_ids[name];
            self.program.known.faults = FAULTS.iter().map(|(kind, name)| (*kind, class(name))).collect();
            self.program.known.fault_of = self.methods[&(class("Fault"), "of")];
        }
        Ok(())
    }

    fn native(&mut self, cursor: &mut Cursor<'t, 's>) -> Result<()> {
        cursor.expect("native")?;
        let name = cursor.word("a name")?;
        let shape = self.shape(cursor)?;
        let id = self.program.natives.push(Native { name: name.text.into(), shape });
        match self.natives.insert(name.text, id) {
            None => Ok(()),
            Some(_) => Err(Error::new(
                name.place,
                format!("there is a native `{}` already", name.text),
                "another name",
            )),
        }
    }

    /// Types in parentheses, and perhaps one behind them.
    fn shape(&self, cursor: &mut Cursor<'t, 's>) -> Result<Shape> {
        let params = self.types(cursor)?;
        Ok(Shape { params, result: self.result(cursor)? })
    }

    fn types(&self, cursor: &mut Cursor<'t, 's>) -> Result<Vec<Type>> {
        let place = cursor.here().place;
        let types = cursor.list(("(", ")"), |cursor| self.ty(cursor))?;
        bound(place, "types", types.len(), MAX_TYPES)?;
        Ok(types)
    }

    /// The type of a result, if one stands here rather than what may follow a method.
    fn result(&self, cursor: &mut Cursor<'t, 's>) -> Result<Option<Type>> {
        const FOLLOWING: &[&str] =
            &["{", "}", "method", "static", "field", "abstract", "class", "interface", "native"];
        let is_none = cursor.here().kind == Kind::End || FOLLOWING.contains(&cursor.here().text);
        if is_none { Ok(None) } else { self.ty(cursor).map(Some) }
    }

    fn ty(&self, cursor: &mut Cursor<'t, 's>) -> Result<Type> {
        let is_byte = cursor.is("byte");
        let element = self.element(cursor)?;
        if !cursor.is("[") {
            return if is_byte {
                Err(cursor.wrong("`[]`: bytes are kept in arrays only"))
            } else {
                Ok(element.ty())
            };
        }
        cursor.take();
        cursor.expect("]")?;
        Ok(Type::Array(element))
    }

    fn element(&self, cursor: &mut Cursor<'t, 's>) -> Result<Element> {
        let word = cursor.word("a type")?;
        Ok(match word.text {
            "byte" => Element::Byte,
            "int" => Element::Int,
            "long" => Element::Long,
            "double" => Element::Double,
            name => match self.class_ids.get(name) {
                Some(class) => Element::Class(*class),
                None => {
                    return Err(wrong(
                        word,
                        "a type: int, long, double, a class, or one of them or byte with `[]`",
                    ));
                }
            },
        })
    }

    /// Takes the name of a class.
    fn class_name(&self, cursor: &mut Cursor<'t, 's>) -> Result<ClassId> {
        let word = cursor.word("the name of a class")?;
        self.class_ids.get(word.text).copied().ok_or_else(|| wrong(word, "the name of a class"))
    }
}
