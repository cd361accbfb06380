//! One line: a node, as the row of its opcode says it is written.

use std::collections::HashMap;
use std::sync::LazyLock;

use smallvec::SmallVec;

use super::body::{Forward, Reader};
use super::cursor::{nearest, perhaps, shown};
use super::declarations::{kind, signature, slot_token};
use super::lex::{Kind, Token};
use super::words::{ASSUMPTIONS, About, FRAME_MODES, Shape, shape};
use super::{MAX_NODES, MAX_WIDE_CONSTANTS, ParseError, constant};
use crate::entity::Entity;
use crate::layout::ObjectKind;
use crate::method::*;
use crate::module::SignatureId;
use crate::opcode::{Opcode, Outcome, PayloadKind, Properties, Row};
use crate::types::Type;

/// Opcodes by name.
static OPCODES: LazyLock<HashMap<&'static str, Opcode>> =
    LazyLock::new(|| Opcode::all().map(|opcode| (opcode.name(), opcode)).collect());

/// What has been read of a line.
struct Line<'s> {
    row: &'static Row,
    /// The opcode's name.
    name: Token<'s>,
    /// The type after the point.
    suffix: Option<(Token<'s>, Type)>,
    operands: SmallVec<[Node; 8]>,
    /// Operands that stand below.
    forward: SmallVec<[(usize, Token<'s>); 2]>,
    payload: Payload,
    /// For a call: what it calls.
    callee: Option<SignatureId>,
}

impl<'s> Line<'s> {
    /// The smallest and the largest number of operands, frame state excluded.
    fn counts(&self) -> (usize, usize) {
        let most = self.row.operands.len();
        let least = most - usize::from(self.row.has(Properties::OPTIONAL_LAST));
        (least, if self.row.has(Properties::VARIADIC) { MAX_OPERANDS - 1 } else { most })
    }
}

impl<'s> Reader<'_, 's, '_> {
    /// `(%name =)? opcode(.T)? … (frame %state)? (!position)?`; gives the root if it is one.
    pub(super) fn line(&mut self) -> Result<Option<Root>, ParseError> {
        let first = self.cursor.here();
        if first.kind == Kind::Value {
            self.cursor.take()?;
            self.cursor.expect_sign('=')?;
        }
        let mut line = self.opcode()?;
        let own = self.own_type(&line)?;
        self.parts(&mut line, own)?;
        self.check_count(&line)?;
        if self.cursor.eat_word("frame")? {
            self.frame_clause(&mut line)?;
        }
        let ty = match line.row.outcome {
            Outcome::Signature => self.callee_type(&line)?,
            _ => own,
        };
        let node = self.add(&line, ty, first)?;
        if first.kind == Kind::Value && self.values.insert(first.name(), node).is_some() {
            let what = format_args!("a node {} stands above already", shown(first.text));
            return Err(self.cursor.error_at(first, what, "another name"));
        }
        for (operand, token) in line.forward {
            self.forward.push(Forward { user: node, operand, token });
        }
        self.root(node)
    }

    /// The opcode and the type after it.
    fn opcode(&mut self) -> Result<Line<'s>, ParseError> {
        let name = self.cursor.expect(Kind::Word, "an operation, a block such as `b1:`, or `}`")?;
        let Some(opcode) = OPCODES.get(name.text) else {
            let similar = nearest(name.text, Opcode::all().map(Opcode::name));
            let what = format_args!("no operation is named {}", shown(name.text));
            return Err(self.cursor.error_at(name, what, format_args!("an operation{}", perhaps(similar))));
        };
        let suffix = match self.cursor.eat_sign('.')? {
            true => Some((self.cursor.here(), self.cursor.ty()?)),
            false => None,
        };
        let (operands, forward) = (SmallVec::new(), SmallVec::new());
        Ok(Line { row: opcode.row(), name, suffix, operands, forward, payload: Payload::None, callee: None })
    }

    /// The type that the row or the text says; `Void` for now where a callee does.
    fn own_type(&self, line: &Line<'s>) -> Result<Type, ParseError> {
        let name = line.row.name;
        match (line.row.outcome, line.suffix) {
            (Outcome::Own(_), Some((_, ty))) => Ok(ty),
            (Outcome::Own(class), None) => {
                let types: Vec<String> = class.types().map(|ty| format!("`{name}.{ty}`")).collect();
                let what = format!("`{name}` has no type");
                Err(self.cursor.error_at(line.name, what, format_args!("one of {}", types.join(", "))))
            }
            (Outcome::Nothing, Some((token, _))) => Err(self.cursor.error_at(
                token,
                format_args!("`{name}` has no value"),
                format_args!("`{name}` alone"),
            )),
            (Outcome::Fixed(ty), Some((token, said))) if said != ty => {
                let what = format!("`{name}` gives {ty}, never {said}");
                Err(self.cursor.error_at(token, what, format_args!("`{name}` alone, or `{name}.{ty}`")))
            }
            (Outcome::Fixed(ty), _) => Ok(ty),
            (Outcome::Nothing | Outcome::Signature, _) => Ok(Type::Void),
        }
    }

    /// The type of a call's node.
    fn callee_type(&self, line: &Line<'s>) -> Result<Type, ParseError> {
        let ty = line.callee.map(|id| self.module.signatures[id].outcome()).unwrap_or_default();
        match line.suffix {
            Some((token, said)) if said != ty => {
                let what = format_args!("the callee gives {ty}, not {said}");
                Err(self.cursor.error_at(
                    token,
                    what,
                    format_args!("`{}` alone, or with the type {ty}", line.row.name),
                ))
            }
            _ => Ok(ty),
        }
    }

    /// Everything between the opcode and the frame state.
    fn parts(&mut self, line: &mut Line<'s>, own: Type) -> Result<(), ParseError> {
        match shape(line.row) {
            Shape::Plain => {
                if self.at_operand() {
                    self.operands(line)?;
                }
            }
            Shape::Leading => {
                self.payload(line, own)?;
                if self.cursor.eat_sign(',')? {
                    self.operands(line)?;
                }
            }
            Shape::Callee => {
                self.payload(line, own)?;
                self.operand_list(line, '(', ')')?;
            }
            Shape::Trailing => self.trailing(line)?,
            Shape::Address => self.access(line)?,
            Shape::Lists if line.row.payload == PayloadKind::Frame => self.frame(line)?,
            Shape::Lists => self.virtual_object(line)?,
        }
        Ok(())
    }

    fn check_count(&self, line: &Line<'s>) -> Result<(), ParseError> {
        let (least, most) = line.counts();
        let count = line.operands.len();
        if (least..=most).contains(&count) {
            return Ok(());
        }
        let expected = match most {
            _ if line.row.has(Properties::VARIADIC) => format!("{least} or more, and at most {most}"),
            _ if least == most => format!("{most}"),
            _ => format!("{least} to {most}"),
        };
        let what = format_args!("`{}` has {count} operands", line.row.name);
        Err(self.cursor.error_at(line.name, what, expected))
    }

    /// `frame %state` after the operands.
    fn frame_clause(&mut self, line: &mut Line<'s>) -> Result<(), ParseError> {
        if !line.row.has(Properties::FRAME) {
            let what = format!("`{}` takes no frame state", line.row.name);
            return Err(self.cursor.error_at(line.name, what, "a line without `frame`"));
        }
        let token = self.cursor.expect(Kind::Value, "a frame state: `%` and its name")?;
        let node = self.value(token)?;
        if self.method.opcode(node) != Opcode::Frame {
            let what = format_args!("{} is no frame state", shown(token.text));
            return Err(self.cursor.error_at(token, what, "the name of a `frame` line above"));
        }
        line.operands.push(node);
        Ok(())
    }

    /// Adds the node.
    fn add(&mut self, line: &Line<'s>, ty: Type, first: Token<'s>) -> Result<Node, ParseError> {
        let Some(nodes_left) = self.nodes_left.checked_sub(1) else {
            return Err(self.cursor.error_at(
                first,
                format_args!("more than {MAX_NODES} nodes"),
                "fewer in one source",
            ));
        };
        *self.nodes_left = nodes_left;
        self.positions.nodes.push(first.place.position);
        Ok(self.method.add_node(line.row.opcode, ty, &line.operands, line.payload))
    }

    /// `!position`, and whether the node is a root at all.
    fn root(&mut self, node: Node) -> Result<Option<Root>, ParseError> {
        let is_root = self.method.is_root(node);
        let sign = self.cursor.here();
        let mut position = SourcePos::NONE;
        if self.cursor.eat_sign('!')? {
            if !is_root {
                return Err(self.cursor.error_at(
                    sign,
                    "this node floats and has no position",
                    "the end of the line",
                ));
            }
            position = SourcePos(self.cursor.number("a position in the source", u32::MAX - 1)?);
        }
        Ok(is_root.then_some(Root { node, position }))
    }

    // ---- operands ----

    fn at_operand(&self) -> bool {
        self.cursor.here().kind == Kind::Value || self.cursor.is_word(Opcode::Dead.name())
    }

    /// The node of a name.
    pub(super) fn value(&self, token: Token<'s>) -> Result<Node, ParseError> {
        let name = token.name();
        self.values.get(&name).copied().ok_or_else(|| {
            let similar = nearest(&name, self.values.keys().map(|name| name.as_ref()));
            let similar = similar.map(|name| format!("%{name}"));
            let what = format_args!("no node {} stands above", shown(token.text)).to_string();
            self.cursor.error_at(
                token,
                what,
                format_args!("a node of this method from above{}", perhaps(similar.as_deref())),
            )
        })
    }

    /// `%name` or `dead`.
    fn operand(&mut self, line: &mut Line<'s>) -> Result<(), ParseError> {
        if !self.at_operand() {
            return Err(self.cursor.unexpected("an operand: `%` and the name of a node, or `dead`"));
        }
        let token = self.cursor.take()?;
        if line.operands.len() == MAX_OPERANDS - 1 {
            return Err(self.cursor.error_at(token, format_args!("{MAX_OPERANDS} operands"), "fewer"));
        }
        let node = if token.kind == Kind::Word {
            self.dead(token)
        } else if line.row.payload == PayloadKind::Virtual && !self.values.contains_key(&token.name()) {
            line.forward.push((line.operands.len(), token));
            // Exchanged before anyone looks.
            Node::new(0)
        } else {
            self.value(token)?
        };
        line.operands.push(node);
        Ok(())
    }

    fn dead(&mut self, token: Token<'s>) -> Node {
        if let Some(node) = self.dead {
            return node;
        }
        self.positions.nodes.push(token.place.position);
        let node = self.method.add_node(Opcode::Dead, Type::Void, &[], Payload::None);
        self.dead = Some(node);
        node
    }

    /// `%a, %b`
    fn operands(&mut self, line: &mut Line<'s>) -> Result<(), ParseError> {
        self.operand(line)?;
        while self.cursor.eat_sign(',')? {
            self.operand(line)?;
        }
        Ok(())
    }

    /// `[%a, %b]`; gives their number.
    fn operand_list(&mut self, line: &mut Line<'s>, open: char, close: char) -> Result<u16, ParseError> {
        let before = line.operands.len();
        self.cursor.expect_sign(open)?;
        while self.cursor.has_item(close, line.operands.len() - before)? {
            self.operand(line)?;
        }
        Ok(u16::try_from(line.operands.len() - before).unwrap_or(u16::MAX))
    }

    // ---- payloads ----

    /// A payload that stands first.
    fn payload(&mut self, line: &mut Line<'s>, own: Type) -> Result<(), ParseError> {
        let cursor = &mut self.cursor;
        line.payload = match line.row.payload {
            PayloadKind::Const if own == Type::V128 => {
                let token = cursor.here();
                let bits = constant::read(cursor, own)?;
                self.wide(bits, token)?
            }
            PayloadKind::Const => Payload::Const(constant::read(cursor, own)? as u64),
            PayloadKind::Local => {
                let name = cursor.expect(Kind::Local, "a local: `$` and its name")?;
                Payload::Local(self.locals.find(name, cursor)?)
            }
            PayloadKind::Slot => {
                let name = cursor.expect(Kind::Local, "a slot: `$` and its name")?;
                Payload::Slot(self.slots.find(name, cursor)?)
            }
            PayloadKind::Symbol => Payload::Symbol(self.globals.symbol(cursor)?),
            PayloadKind::Class => Payload::Class(self.globals.class(cursor)?),
            PayloadKind::Element => Payload::Element(cursor.ty()?),
            PayloadKind::Method => {
                let id = self.globals.method(cursor)?;
                line.callee = Some(self.module.methods[id].signature);
                Payload::Method(id)
            }
            PayloadKind::Native => {
                let id = self.globals.native(cursor)?;
                line.callee = Some(self.module.natives[id].signature);
                Payload::Native(id)
            }
            PayloadKind::Signature => {
                let id = signature(cursor, self.module)?;
                line.callee = Some(id);
                Payload::Signature(id)
            }
            PayloadKind::Dispatch => {
                let dispatch = self.dispatch()?;
                line.callee =
                    Some(self.module.classes[dispatch.class].slots[dispatch.slot as usize].signature);
                Payload::Dispatch(dispatch)
            }
            PayloadKind::Guard => self.guard(line.row)?,
            kind => unreachable!("the shape of a row with payload {kind:?} is read elsewhere"),
        };
        Ok(())
    }

    fn wide(&mut self, bits: u128, token: Token<'s>) -> Result<Payload, ParseError> {
        if self.wides.len() == MAX_WIDE_CONSTANTS && !self.wides.contains_key(&bits) {
            let what = format_args!("more than {MAX_WIDE_CONSTANTS} different constants of 128 bits");
            return Err(self.cursor.error_at(token, what, "fewer in one method"));
        }
        let method = &mut self.method;
        Ok(Payload::Wide(*self.wides.entry(bits).or_insert_with(|| method.add_wide(bits))))
    }

    /// `@C.slot`
    fn dispatch(&mut self) -> Result<Dispatch, ParseError> {
        let class = self.globals.class(&mut self.cursor)?;
        self.cursor.expect_sign('.')?;
        let token = slot_token(&mut self.cursor)?;
        let slot = self.globals.slot(class, token, self.module, &self.cursor)?;
        Ok(Dispatch { class, slot })
    }

    /// `[assumption, …]`, and two successors where the row ends a block.
    fn guard(&mut self, row: &Row) -> Result<Payload, ParseError> {
        let mut assumptions = Vec::new();
        self.cursor.expect_sign('[')?;
        while self.cursor.has_item(']', assumptions.len())? {
            assumptions.push(match self.cursor.expect_one_of(ASSUMPTIONS, "an assumption")? {
                About::Extension => Assumption::NotExtended(self.globals.class(&mut self.cursor)?),
                About::Override => {
                    let Dispatch { class, slot } = self.dispatch()?;
                    Assumption::NotOverridden(class, slot)
                }
                About::Write => Assumption::NotWritten(self.globals.symbol(&mut self.cursor)?),
                About::Redefinition => Assumption::NotRedefined(self.globals.method(&mut self.cursor)?),
                About::Custom => Assumption::Custom(self.cursor.number("the condition's number", u32::MAX)?),
            });
        }
        let successors = match row.has(Properties::TERMINATES) {
            true => {
                self.cursor.expect_sign(',')?;
                Some(self.two_blocks()?)
            }
            false => None,
        };
        Ok(Payload::Guard(self.method.add_guard(&assumptions, successors)))
    }

    /// `b1, b2`
    fn two_blocks(&mut self) -> Result<(Block, Block), ParseError> {
        let first = self.block()?;
        self.cursor.expect_sign(',')?;
        Ok((first, self.block()?))
    }

    /// Operands, then the payload.
    fn trailing(&mut self, line: &mut Line<'s>) -> Result<(), ParseError> {
        let mut is_after_comma = true;
        while is_after_comma && self.at_operand() {
            self.operand(line)?;
            is_after_comma = self.cursor.eat_sign(',')?;
        }
        if line.row.payload == PayloadKind::Raise {
            line.payload = self.raise(line.row, is_after_comma)?;
            return Ok(());
        }
        if !is_after_comma {
            return Err(self.cursor.unexpected("`,`"));
        }
        line.payload = match line.row.payload {
            PayloadKind::Index => Payload::Index(self.cursor.number("a number", u32::MAX)?),
            PayloadKind::Goto => Payload::Goto(self.block()?),
            PayloadKind::Branch => {
                let (then, otherwise) = self.two_blocks()?;
                Payload::Branch(then, otherwise)
            }
            _ => self.switch(line)?,
        };
        Ok(())
    }

    /// A kind, unless it is the first that the row may raise, and a reason.
    fn raise(&mut self, row: &Row, is_after_comma: bool) -> Result<Payload, ParseError> {
        let usual = row.raises.iter().next();
        let kind = match usual {
            Some(usual) if !is_after_comma => usual,
            _ if is_after_comma => kind(&mut self.cursor)?,
            _ => return Err(self.cursor.unexpected("`,` and the kind of the raise")),
        };
        let reason = match self.cursor.eat_word("reason")? {
            true => self.cursor.number("the reason", u16::MAX)?,
            false => 0,
        };
        Ok(Payload::Raise(kind, reason))
    }

    /// `[value: b1, …], b2`
    fn switch(&mut self, line: &Line<'s>) -> Result<Payload, ParseError> {
        let ty = line.operands.first().map(|node| self.method.ty(*node)).filter(|ty| ty.is_int());
        let ty = ty.unwrap_or(Type::I64);
        let mut cases = Vec::new();
        self.cursor.expect_sign('[')?;
        while self.cursor.has_item(']', cases.len())? {
            let bits = constant::read(&mut self.cursor, ty)? as u64;
            self.cursor.expect_sign(':')?;
            cases.push((bits, self.block()?));
        }
        self.cursor.expect_sign(',')?;
        let default = self.block()?;
        Ok(Payload::Switch(self.method.add_switch(&cases, default)))
    }

    /// `place [base + index*scale + offset]`, then the operands before the base.
    fn access(&mut self, line: &mut Line<'s>) -> Result<(), ParseError> {
        let place = match self.cursor.here().kind {
            Kind::Global => Place::Symbol(self.globals.symbol(&mut self.cursor)?),
            Kind::Local => {
                let name = self.cursor.take()?;
                Place::Slot(self.slots.find(name, &self.cursor)?)
            }
            _ => return Err(self.cursor.unexpected("where the access goes: `@symbol` or `$slot`")),
        };
        let (mut scale, mut offset) = (1, 0);
        self.cursor.expect_sign('[')?;
        self.operand(line)?;
        if self.cursor.is_sign('+') {
            let mut ahead = self.cursor;
            ahead.take()?;
            if ahead.here().kind != Kind::Number {
                self.cursor = ahead;
                self.operand(line)?;
                if self.cursor.eat_sign('*')? {
                    scale = self.cursor.number("the scale", u8::MAX)?;
                }
            }
        }
        if self.cursor.eat_sign('+')? {
            offset = self.cursor.number("the offset", i32::MAX)?;
        } else if self.cursor.eat_sign('-')? {
            let magnitude: u32 = self.cursor.number("the offset", i32::MIN.unsigned_abs())?;
            offset = 0i32.wrapping_sub_unsigned(magnitude);
        }
        if !self.cursor.eat_sign(']')? {
            return Err(self.cursor.unexpected("`]` after `base + index*scale + offset`"));
        }
        let address = line.operands.len();
        if self.cursor.eat_sign(',')? {
            self.operands(line)?;
        }
        line.operands.rotate_left(address);
        line.payload = Payload::Access(Access { place, offset, scale });
        let values = line.row.operands.len() - 2;
        match line.operands.len() - address == values {
            true => Ok(()),
            false => {
                let what = format!("{} operands stand after the address", line.operands.len() - address);
                Err(self.cursor.error_at(line.name, what, values))
            }
        }
    }

    /// `@method(:position)? mode [locals] [stack] (monitors [objects])? (parent %frame)?`
    fn frame(&mut self, line: &mut Line<'s>) -> Result<(), ParseError> {
        let method = self.globals.method(&mut self.cursor)?;
        let position = match self.cursor.eat_sign(':')? {
            true => SourcePos(self.cursor.number("a position in the source", u32::MAX - 1)?),
            false => SourcePos::NONE,
        };
        let mode = self.cursor.expect_one_of(FRAME_MODES, "when the state holds")?;
        let locals = self.operand_list(line, '[', ']')?;
        let stack = self.operand_list(line, '[', ']')?;
        let monitors = match self.cursor.eat_word("monitors")? {
            true => self.operand_list(line, '[', ']')?,
            false => 0,
        };
        if self.cursor.eat_word("parent")? {
            self.operand(line)?;
        }
        let data = FrameData { method, position, mode, locals, stack, monitors };
        line.payload = Payload::Frame(self.method.add_frame(data));
        Ok(())
    }

    /// `id @Class [fields]`, `id array i64 [elements]` or `id array @Class [elements]`
    fn virtual_object(&mut self, line: &mut Line<'s>) -> Result<(), ParseError> {
        let id = self.cursor.number("the object's number", u32::MAX)?;
        let kind = if !self.cursor.eat_word("array")? {
            ObjectKind::Object(self.globals.class(&mut self.cursor)?)
        } else if self.cursor.here().kind == Kind::Global {
            ObjectKind::ObjectArray(self.globals.class(&mut self.cursor)?)
        } else {
            ObjectKind::Array(self.cursor.ty()?)
        };
        self.operand_list(line, '[', ']')?;
        line.payload = Payload::Virtual(self.method.add_virtual(VirtualData { id, kind }));
        Ok(())
    }
}
