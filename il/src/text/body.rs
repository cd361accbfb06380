//! Bodies: locals and slots, then blocks.
//!
//! Blocks may be named before their line, so a first look finds their labels and makes them. Handler lists that read
//! the same are one list.

use std::borrow::Cow;
use std::collections::HashMap;

use bumpalo::Bump;
use indexmap::IndexMap;

use super::cursor::{Cursor, Names, shown};
use super::declarations::{BodyStart, Declarations, Globals, kind_set};
use super::lex::{Kind, Token};
use super::{Body, MAX_BLOCKS, MAX_LOCALS, ParseError, Positions, constant};
use crate::entity::Entity;
use crate::method::*;
use crate::module::Module;

/// Reads the body of one method.
pub(super) struct Reader<'a, 's, 'd> {
    pub(super) cursor: Cursor<'s>,
    pub(super) module: &'d mut Module,
    pub(super) globals: &'d Globals<'s>,
    pub(super) method: Method<'a>,
    pub(super) nodes_left: &'d mut usize,
    pub(super) locals: Names<'s>,
    pub(super) slots: Names<'s>,
    /// The nodes that have names.
    pub(super) values: IndexMap<Cow<'s, str>, Node>,
    /// The node of the `dead` operands of the block in hand: a node is of one extended block.
    pub(super) dead: Option<Node>,
    /// Operands of virtual objects that stand below them.
    pub(super) forward: Vec<Forward<'s>>,
    pub(super) wides: HashMap<u128, WideConst>,
    pub(super) positions: Positions,
    /// Block numbers, ascending: a block's index is its place here.
    labels: Vec<u32>,
    handler_lists: HashMap<&'s str, HandlerList>,
}

/// An operand whose node has not been read yet.
pub(super) struct Forward<'s> {
    pub(super) user: Node,
    pub(super) operand: usize,
    pub(super) token: Token<'s>,
}

/// The first line of a block, as the first look sees it.
struct Label<'s> {
    number: u32,
    token: Token<'s>,
    extends: Option<(u32, Token<'s>)>,
}

/// Reads a body.
pub(super) fn read<'a, 's>(
    start: BodyStart<'s>,
    declarations: &mut Declarations<'s>,
    arena: &'a Bump,
    nodes_left: &mut usize,
) -> Result<Body<'a>, ParseError> {
    let header = start.header.place.position;
    let (nodes, blocks, locals, slots) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let positions = Positions { header, nodes, blocks, locals, slots };
    let mut reader = Reader {
        cursor: start.cursor,
        module: &mut declarations.module,
        globals: &declarations.globals,
        method: Method::new(arena, start.id),
        nodes_left,
        locals: Names::new("local", MAX_LOCALS),
        slots: Names::new("slot", MAX_LOCALS),
        values: IndexMap::new(),
        dead: None,
        forward: Vec::new(),
        wides: HashMap::new(),
        positions,
        labels: Vec::new(),
        handler_lists: HashMap::new(),
    };
    for (name, ty) in start.params {
        reader.locals.insert_new(name, &reader.cursor)?;
        reader.positions.locals.push(name.place.position);
        reader.method.add_param(&name.name(), ty);
    }
    reader.locals_and_slots()?;
    reader.labels()?;
    reader.blocks()?;
    reader.resolve_forward()?;
    Ok(Body { method: reader.method, positions: reader.positions })
}

impl<'a, 's> Reader<'a, 's, '_> {
    /// `local $name: T` and `slot $name: size align n`
    fn locals_and_slots(&mut self) -> Result<(), ParseError> {
        loop {
            let word = self.cursor.next_line();
            if word.kind != Kind::Word || !matches!(word.text, "local" | "slot") {
                return Ok(());
            }
            let cursor = &mut self.cursor;
            cursor.begin_line();
            cursor.take()?;
            let name = cursor.expect(Kind::Local, "`$` and a name")?;
            cursor.expect_sign(':')?;
            if word.text == "local" {
                self.locals.insert_new(name, cursor)?;
                self.positions.locals.push(name.place.position);
                self.method.add_local(&name.name(), cursor.ty()?);
            } else {
                self.slots.insert_new(name, cursor)?;
                self.positions.slots.push(name.place.position);
                let size_bytes = cursor.number("the size in bytes", u32::MAX)?;
                cursor.expect_word("align")?;
                self.method.add_slot(
                    &name.name(),
                    size_bytes,
                    cursor.number("the alignment in bytes", u32::MAX)?,
                );
            }
            cursor.expect_line_end()?;
        }
    }

    // ---- blocks ----

    /// Looks ahead for the blocks and makes them.
    fn labels(&mut self) -> Result<(), ParseError> {
        let labels = self.look_for_labels()?;
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by_key(|index| labels[*index].number);
        self.labels = order.iter().map(|index| labels[*index].number).collect();
        if let Some(pair) = order.windows(2).find(|pair| labels[pair[0]].number == labels[pair[1]].number) {
            let second = labels[pair[1]].token;
            let what = format_args!("a block {} stands above already", shown(second.text)).to_string();
            return Err(self.cursor.error_at(second, what, "another number"));
        }
        for index in &order {
            let parent = match labels[*index].extends {
                None => None,
                Some((number, token)) => {
                    let parent = self.labelled(number, token)?;
                    if order[parent.index()] >= *index {
                        let what =
                            format_args!("{} does not stand above this block", shown(token.text)).to_string();
                        return Err(self.cursor.error_at(
                            token,
                            what,
                            "a block above, of which this is the continuation",
                        ));
                    }
                    Some(parent)
                }
            };
            self.method.add_block(parent, None);
        }
        self.positions.blocks = order.iter().map(|index| labels[*index].token.place.position).collect();
        Ok(())
    }

    /// The first lines of the blocks, in the order of the text.
    fn look_for_labels(&self) -> Result<Vec<Label<'s>>, ParseError> {
        let mut cursor = self.cursor;
        let mut labels: Vec<Label<'s>> = Vec::new();
        loop {
            let token = cursor.next_line();
            if token.begins_line && matches!(token.kind, Kind::Sign('}') | Kind::End) {
                return Ok(labels);
            }
            cursor.begin_line();
            cursor.take()?;
            if let (true, Some(number)) = (token.begins_line, block_number(token)) {
                if labels.len() == MAX_BLOCKS {
                    return Err(cursor.error_at(
                        token,
                        format_args!("more than {MAX_BLOCKS} blocks"),
                        "fewer",
                    ));
                }
                let mut extends = None;
                if cursor.eat_word("extends")?
                    && let Some(number) = block_number(cursor.here())
                {
                    extends = Some((number, cursor.here()));
                }
                labels.push(Label { number, token, extends });
            }
        }
    }

    /// The block with this number.
    fn labelled(&self, number: u32, token: Token<'s>) -> Result<Block, ParseError> {
        match self.labels.binary_search(&number) {
            Ok(index) => Ok(Block::new(index)),
            Err(_) => {
                let what = format_args!("no block {} is in this method", shown(token.text)).to_string();
                Err(self.cursor.error_at(token, what, "the label of a block of this method"))
            }
        }
    }

    /// Takes the label of a block.
    pub(super) fn block(&mut self) -> Result<Block, ParseError> {
        let token = self.cursor.here();
        let Some(number) = block_number(token) else {
            return Err(self.cursor.unexpected("a block: `b` and its number"));
        };
        self.cursor.take()?;
        self.labelled(number, token)
    }

    /// Reads the blocks, and the brace that ends them.
    fn blocks(&mut self) -> Result<(), ParseError> {
        let mut current = None;
        let mut roots: Vec<Root> = Vec::new();
        loop {
            self.cursor.begin_line();
            let here = self.cursor.here();
            let is_end = here.kind == Kind::Sign('}');
            if is_end || block_number(here).is_some() {
                if let Some(block) = current {
                    self.method.set_roots(block, &roots);
                    roots.clear();
                }
                if is_end {
                    self.cursor.take()?;
                    return self.cursor.expect_line_end();
                }
                current = Some(self.block_line()?);
                self.dead = None;
            } else if current.is_some() {
                roots.extend(self.line()?);
            } else {
                return Err(self.cursor.unexpected("`local`, `slot`, a block such as `b0:`, or `}`"));
            }
            self.cursor.expect_line_end()?;
        }
    }

    /// `bN (extends bM)? (freq x)? (handlers […])? :`
    fn block_line(&mut self) -> Result<Block, ParseError> {
        let block = self.block()?;
        if self.cursor.eat_word("extends")? {
            // Known since the first look.
            self.block()?;
        }
        if self.cursor.eat_word("freq")? {
            let frequency = constant::read_frequency(&mut self.cursor)?;
            self.method.set_frequency(block, Some(frequency));
        }
        if self.cursor.eat_word("handlers")? {
            let list = self.handlers()?;
            self.method.set_handlers(block, Some(list));
        }
        match self.cursor.eat_sign(':')? {
            true => Ok(block),
            false => Err(self.cursor.unexpected("`extends`, `freq`, `handlers` (in this order) or `:`")),
        }
    }

    /// `[kinds @C?: bK, …]`
    fn handlers(&mut self) -> Result<HandlerList, ParseError> {
        let start = self.cursor.here();
        let mut handlers = Vec::new();
        self.cursor.expect_sign('[')?;
        while self.cursor.has_item(']', handlers.len())? {
            let kinds = kind_set(&mut self.cursor)?;
            let class = match self.cursor.here().kind {
                Kind::Global => Some(self.globals.class(&mut self.cursor)?),
                _ => None,
            };
            self.cursor.expect_sign(':')?;
            handlers.push(Handler { kinds, class, block: self.block()? });
        }
        let text = self.cursor.text_since(start);
        let method = &mut self.method;
        Ok(*self.handler_lists.entry(text).or_insert_with(|| method.add_handlers(&handlers)))
    }

    /// Gives virtual objects their operands that stood below them.
    fn resolve_forward(&mut self) -> Result<(), ParseError> {
        let forward = std::mem::take(&mut self.forward);
        for group in forward.chunk_by(|left, right| left.user == right.user) {
            let user = group[0].user;
            let mut operands = self.method.operands(user).to_vec();
            for Forward { operand, token, .. } in group {
                operands[*operand] = self.value(*token)?;
            }
            let (opcode, payload) = (self.method.opcode(user), self.method.payload(user));
            self.method.replace_node(user, opcode, &operands, payload);
        }
        Ok(())
    }
}

/// The number of a label: `b` and digits.
fn block_number(token: Token<'_>) -> Option<u32> {
    let digits = token.text.strip_prefix('b').filter(|_| token.kind == Kind::Word)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}
