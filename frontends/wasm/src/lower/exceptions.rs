//! Exceptions: a `try_table` is one handler, which tells tags apart itself.
//!
//! ```text
//!   b1: … goto b2                       b3 (handler):  %e = caught; %t = its tag
//!   b2 handlers [guest: b3]: body               %t == tag 0?  ── yes: values home, goto label 0
//!                                               %t == tag 1?  ── yes: …
//!                                               throw %e      (the handlers around the `try_table` are in force)
//! ```
//!
//! Traps are of other kinds than exceptions, so that no handler sees them. An exception that is caught without a
//! reference is given back to the store, which frees it unless a reference escaped before.

use dagwood_il as il;
use il::{Access, Handler, KindSet, Local, Node, Opcode, Payload, Place, Type};
use wasmparser::{Catch, TryTable};

use super::{Lower, NativeFunction, Types};
use crate::error::Error;
use crate::layout::{EXCEPTION_ESCAPED, EXCEPTION_TAG, EXCEPTION_VALUES, WORD_BYTES};
use crate::trap::reason;

/// The exception that a handler looks at.
struct Caught {
    object: Node,
    tag: Node,
    /// Keeps the exception where the handler has to begin a new extended block.
    home: Option<Local>,
}

impl Lower<'_, '_> {
    pub(super) fn begin_try(&mut self, try_table: &TryTable) -> Result<(), Error> {
        let arity = self.arity(try_table.ty);
        if try_table.catches.is_empty() {
            self.open_try(arity);
            return Ok(());
        }
        self.make_room();
        self.settle();
        let outer = self.handlers;
        let handler = self.new_block();
        let list = self.b.handlers(&[Handler { kinds: KindSet::GUEST, class: None, block: handler }]);
        let body = self.extension();
        self.b.set_handlers(body, Some(list));
        self.b.goto(body);
        let (parent, mark) = (self.place, self.facts.mark());
        self.begin_head(handler);
        self.dispatch(&try_table.catches)?;
        self.begin_extension(body, parent);
        self.facts.back_to(mark);
        self.handlers = outer;
        self.open_try(arity);
        self.handlers = Some(list);
        Ok(())
    }

    /// Fills a handler: goes to the label of the first clause that fits, or throws again.
    fn dispatch(&mut self, catches: &[Catch]) -> Result<(), Error> {
        let object = self.b.emit(Opcode::Caught, Type::Addr, &[], Payload::None);
        let mut caught = Caught { object, tag: object, home: None };
        self.read_tag(&mut caught);
        for catch in catches {
            let (tag, label, has_reference) = match *catch {
                Catch::One { tag, label } => (tag, label, false),
                Catch::OneRef { tag, label } => (tag, label, true),
                Catch::All { label } => return self.deliver(&caught, None, label, false),
                Catch::AllRef { label } => return self.deliver(&caught, None, label, true),
            };
            self.make_room_for(&mut caught);
            let expected = self.tag(tag);
            let is_same = self.b.op(Opcode::Eq, &[caught.tag, expected]);
            let (parent, mark) = (self.place, self.facts.mark());
            let (matched, next) = (self.extension(), self.extension());
            self.b.branch(is_same, matched, next);
            self.begin_extension(matched, parent);
            self.deliver(&caught, Some(tag), label, has_reference)?;
            self.begin_extension(next, parent);
            self.facts.back_to(mark);
        }
        self.b.throw(caught.object);
        Ok(())
    }

    fn read_tag(&mut self, caught: &mut Caught) {
        caught.tag = self.word(Type::I64, self.cx.symbols().exceptions, caught.object, EXCEPTION_TAG);
    }

    /// As `make_room`, keeping the exception.
    fn make_room_for(&mut self, caught: &mut Caught) {
        if self.place.depth + 1 < il::MAX_EXTENSION_DEPTH {
            return;
        }
        let home = match caught.home {
            Some(home) => home,
            None => self.b.local(&format!("caught{}", self.heads), Type::Addr),
        };
        self.b.set(home, caught.object);
        self.make_room();
        caught.home = Some(home);
        caught.object = self.b.get(home);
        self.read_tag(caught);
    }

    /// The identity of a tag in this instance.
    fn tag(&mut self, tag: u32) -> Node {
        self.context_word(Type::I64, self.cx.symbols().instance, self.cx.layout().tag(tag))
    }

    /// The types of a tag's values.
    fn payload(&self, tag: u32) -> Types {
        self.module.tag_type(tag).params.iter().map(|ty| ty.lowered()).collect()
    }

    /// Ends the block: branches to a label with an exception's values, and with a reference to it if asked.
    fn deliver(
        &mut self,
        caught: &Caught,
        tag: Option<u32>,
        label: u32,
        has_reference: bool,
    ) -> Result<(), Error> {
        let exceptions = self.cx.symbols().exceptions;
        let types = tag.map(|tag| self.payload(tag)).unwrap_or_default();
        let mut values: Vec<Node> = Vec::with_capacity(types.len() + 1);
        for (index, ty) in types.iter().enumerate() {
            values.push(self.word(*ty, exceptions, caught.object, value_offset(index)));
        }
        if has_reference {
            let escaped = self.b.i64(1);
            self.exception_store(escaped, caught.object, EXCEPTION_ESCAPED);
            values.push(caught.object);
        } else {
            self.native(NativeFunction::ExceptionFree, &[caught.object]);
        }
        self.transfer(label, &values);
        self.bound()
    }

    fn exception_store(&mut self, value: Node, object: Node, offset: u32) {
        let place = Place::Symbol(self.cx.symbols().exceptions);
        self.b.store(Access { place, offset: offset as i32, scale: 1 }, value, object, None);
    }

    pub(super) fn throw(&mut self, tag: u32) {
        let values = self.pop_many(self.payload(tag).len());
        let identity = self.tag(tag);
        let count = self.b.i64(values.len() as i64);
        let object = self.native(NativeFunction::ExceptionNew, &[identity, count]);
        for (index, value) in values.into_iter().enumerate() {
            self.exception_store(value, object, value_offset(index));
        }
        self.b.throw(object);
        self.is_reachable = false;
    }

    pub(super) fn throw_ref(&mut self) {
        let reference = self.pop();
        let object = self.b.checked(Opcode::NullCheck, Type::Addr, &[reference], reason::EXCEPTION);
        self.b.throw(object);
        self.is_reachable = false;
    }
}

/// Where in an exception a value is.
fn value_offset(index: usize) -> u32 {
    EXCEPTION_VALUES + WORD_BYTES * index as u32
}
