//! Scalar replacement: an object that nobody else sees is not made; its fields are values and locals.
//!
//! ```text
//!   %p = new @Point                            set $x, 0
//!   store @x [%p], %1                          set $x, %1
//!   monitor_enter %p                   ⇒
//!   call @f(%1) frame [%p]                     call @f(%1) frame [virtual 0 @Point [%1, 0]]
//!   b2: %2 = load @x [entry $p]                b2: %2 = entry $x
//! ```
//!
//! [`Escapes`] says which objects these are and what their nodes lead to; this is the walk that takes them apart. Within an extended block a
//! field is the value that was stored last; between them it is a local. What a frame state shows of an object is a virtual object with
//! the values that its fields have at the root that carries it.
//!
//! # Why
//!
//! Guests make objects for what is no object: pairs that are returned, iterators, boxes, what a callee that came in was handed. Not making
//! them saves more than the time to make them: their fields are known, their classes too, and their monitors are nobody's.
//!
//! # Guarantees
//!
//! * An object that does not escape is gone as a whole, with all that holds it, or stays as it was. What holds another goes with it: that is
//!   one rewrite.
//! * The `out_of_memory` that making it might have raised is gone, as that of whatever is not used.
//! * Its monitor is entered when code is left through a frame state, by whoever goes on: the frame state lists it.
//!
//! # Cost
//!
//! Linear in roots, and in what frame states show of objects, which is limited; besides the analysis.

mod frames;
mod groups;

use std::collections::BTreeMap;

use dagwood_il::entity::EntityVec;
use dagwood_il::{
    Block, EdgeKind, Edits, Frequency, Local, Method, Node, Opcode, Payload, Point, SourcePos, Type,
};

use crate::analysis::escape::{Escapes, Held, Object, Origin, Place, Use, comparison};
use crate::analysis::live_locals::set;
use crate::cx::PassCx;
use crate::demand::{Demand, Gain};
use crate::pass::{Changed, Pass};
use crate::passes::value_propagation;
use crate::region::Region;
use frames::Frames;
use groups::Groups;

/// The pass.
pub const PASS: Pass = Pass {
    name: "escape_analysis",
    summary: "keep the fields of objects that nobody else sees in locals, and do not make the objects",
    run,
};

/// About how many cycles are saved later by what is known of an object's fields.
const KNOWN_CYCLES: u32 = 4;

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let found = cx.get::<Option<Escapes>>(method);
    let Some(escapes) = &*found else { return Changed::No };
    say_what_escapes(method, cx, escapes);
    let replaced = choose(method, cx, escapes);
    if !replaced.values().any(|is_replaced| *is_replaced) {
        return Changed::No;
    }
    let cfg = cx.cfg(method);
    let mut replacement = Replacement {
        escapes,
        locals: locals(method, escapes, &replaced),
        frames: Frames::new(method, escapes.objects().count()),
        replaced,
        edits: Edits::new(),
        blocks: Vec::new(),
        versions: 0,
    };
    for block in cfg.order() {
        if method.block(*block).extends.is_none() {
            replacement.extended_block(method, cx, *block);
        }
    }
    let Replacement { edits, blocks, .. } = replacement;
    let hottest = blocks.iter().filter_map(|block| method.block(*block).frequency).max();
    let (gain, region) = (Gain::cycles(KNOWN_CYCLES, hottest), Region::around(method, blocks));
    cx.demand(Demand::new(value_propagation::PASS, region, "fields of objects are values", gain));
    cx.apply(method, edits)
}

fn say_what_escapes(method: &Method<'_>, cx: &mut PassCx<'_>, escapes: &Escapes) {
    for (block, node, why) in escapes.unknown() {
        cx.missed((*block, *node), || format!("the object is made: {why}"));
    }
    for (_, data) in escapes.objects() {
        let (Some(escape), Origin::Made(block, node)) = (data.escape, data.origin) else { continue };
        cx.missed((block, node), || match escape.at {
            Place::Root(to, node) => {
                let frequency = |block: Block| method.block(block).frequency.unwrap_or(Frequency::ONCE);
                let is_rare = frequency(to) < frequency(block);
                let rarely = if is_rare { ", which is reached less often than it is made" } else { "" };
                format!("the object escapes: {}, {node} in {to}{rarely}", escape.why)
            }
            Place::Head(block) => format!("the object escapes: {}, at {block}", escape.why),
            Place::Unknown => format!("the object is made: {}", escape.why),
        });
    }
}

/// Asks for each object that does not escape, together with those that it may hold or be held by.
fn choose(method: &Method<'_>, cx: &mut PassCx<'_>, escapes: &Escapes) -> EntityVec<Object, bool> {
    cx.spend(method.node_count() as u64);
    let groups = Groups::find(cx.module(), method, escapes);
    let shown_too_often = groups.shown_too_often(method, escapes, &mut |work| cx.spend(work));
    let mut replaced = EntityVec::filled(false, escapes.objects().count());
    // Objects that merge others come after these.
    for (object, data) in escapes.objects().filter(|(_, data)| data.escape.is_none()) {
        let first = groups.first(object);
        replaced[object] = match data.origin {
            Origin::Made(block, node) if first == object && shown_too_often.contains(&object) => {
                cx.missed((block, node), || "frame states would show too often what the object has".into());
                false
            }
            Origin::Made(block, node) if first == object => {
                cx.allows((block, node), || match groups.made(escapes, object) - 1 {
                    0 => "nobody else sees the object: its fields are values".into(),
                    more => format!(
                        "nobody else sees the object, nor {more} more that it holds or meets: all are values"
                    ),
                })
            }
            _ => first != object && replaced[first],
        };
    }
    replaced
}

/// The locals for the fields of objects that are in use in several extended blocks.
fn locals(
    method: &mut Method<'_>,
    escapes: &Escapes,
    replaced: &EntityVec<Object, bool>,
) -> EntityVec<Object, Vec<Local>> {
    let mut locals = EntityVec::filled(Vec::new(), replaced.len());
    for head in method.blocks().collect::<Vec<_>>() {
        for (object, _) in escapes.at_head(head).filter(|(object, _)| replaced[*object]) {
            if locals[object].is_empty() {
                let fields = escapes.data(object).shape.fields.iter();
                locals[object] = fields.map(|field| method.add_local("field", field.ty)).collect();
            }
        }
    }
    locals
}

/// What a field of an object that is not made has.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// What its local has at the head.
    AtHead,
    /// This value.
    Node(Node),
    /// Another such object.
    Object(Object),
}

/// What objects have at one point.
#[derive(Clone, Debug, Default)]
struct Scene {
    fields: BTreeMap<Object, Vec<Value>>,
    /// Scenes of one version are the same.
    version: u32,
}

struct Replacement<'r> {
    escapes: &'r Escapes,
    replaced: EntityVec<Object, bool>,
    locals: EntityVec<Object, Vec<Local>>,
    frames: Frames,
    edits: Edits,
    /// Where something is known now.
    blocks: Vec<Block>,
    versions: u32,
}

impl Replacement<'_> {
    /// The object that a value leads to, if it is not made.
    fn object(&self, node: Node) -> Option<Object> {
        self.escapes.object(node).filter(|object| self.replaced[*object])
    }

    fn extended_block(&mut self, method: &mut Method<'_>, cx: &mut PassCx<'_>, head: Block) {
        let (escapes, cfg) = (self.escapes, cx.cfg(method));
        let mut scene = Scene { version: self.next_version(), ..Scene::default() };
        for (object, contents) in escapes.at_head(head).filter(|(object, _)| self.replaced[*object]) {
            let value = |held: &Held| match held {
                Held::Object(object) if self.replaced[*object] => Value::Object(*object),
                _ => Value::AtHead,
            };
            scene.fields.insert(object, contents.fields.iter().map(value).collect());
        }
        let mut pending = vec![(head, scene)];
        while let Some((block, mut scene)) = pending.pop() {
            // Whether there is time left does not matter any more: objects that are half gone would be wrong.
            cx.spend((method.roots(block).len() + scene.fields.len()) as u64);
            for (position, root) in (0..).zip(method.roots(block)) {
                self.root(method, cx, Point { block, position }, root.node, &mut scene);
            }
            for edge in cfg.successors(block) {
                match edge.kind {
                    EdgeKind::Extension => pending.push((edge.block, scene.clone())),
                    EdgeKind::Normal => self.edge(method, (block, edge.block), &mut scene),
                    EdgeKind::Exception(_) => {}
                }
            }
        }
        for node in escapes.users(head) {
            self.compare(method, *node);
        }
    }

    /// Where objects are merged, the locals for fields of the new one get what those of the others have.
    fn edge(&mut self, method: &mut Method<'_>, (from, head): (Block, Block), scene: &mut Scene) {
        let escapes = self.escapes;
        let mut sets = Vec::new();
        for (merged, object) in escapes.arriving(from, head) {
            if merged == object || !self.replaced[merged] {
                continue;
            }
            let Some((_, contents)) = escapes.at_head(head).find(|(own, _)| *own == merged) else { continue };
            for (field, held) in contents.fields.iter().enumerate() {
                if *held != Held::Value {
                    continue;
                }
                if let Some(value) = self.value(method, object, field, scene) {
                    let local = Payload::Local(self.locals[merged][field]);
                    sets.push(method.add_node(Opcode::Set, Type::Void, &[value], local));
                }
            }
        }
        if !sets.is_empty() {
            self.edits.on_edge(from, head, &sets);
        }
    }

    fn next_version(&mut self) -> u32 {
        self.versions += 1;
        self.versions
    }

    fn root(
        &mut self,
        method: &mut Method<'_>,
        cx: &mut PassCx<'_>,
        at: Point,
        node: Node,
        scene: &mut Scene,
    ) {
        if let Some((_, value)) = set(method, node) {
            if self.object(value).is_some() {
                self.edits.remove(node);
            }
            return;
        }
        if let Some(object) = self.escapes.made_by(method, node).filter(|object| self.replaced[*object]) {
            self.make(method, at, object, scene);
            return self.edits.remove(node);
        }
        let used = self.escapes.uses(cx.module(), method, node);
        let of_replaced = |found: &Use| self.replaced[found.object()];
        let Some(found) = used.into_iter().find(of_replaced) else {
            return self.frame(method, node, scene);
        };
        self.edits.remove(node);
        self.blocks.push(at.block);
        match found {
            Use::Is(_) | Use::Enter(_) | Use::Exit(_) => {}
            Use::Constant(_, bits) => {
                let constant = method.add_node(Opcode::Const, method.ty(node), &[], Payload::Const(bits));
                self.edits.replace(node, constant);
            }
            Use::Class(_, class) => {
                let address = method.add_node(Opcode::ClassAddress, Type::Addr, &[], Payload::Class(class));
                self.edits.replace(node, address);
            }
            Use::Load(object, field) => {
                if let Some(value) = self.value(method, object, field, scene) {
                    self.edits.replace(node, value);
                }
            }
            Use::Store(object, field, value) => self.store(method, at, (object, field), value, scene),
            Use::Escape(..) => unreachable!("what is replaced does not escape"),
        }
    }

    /// The object is not made: its fields are zero.
    fn make(&mut self, method: &mut Method<'_>, at: Point, object: Object, scene: &mut Scene) {
        let escapes = self.escapes;
        let fields = &escapes.data(object).shape.fields;
        scene.fields.insert(object, vec![Value::AtHead; fields.len()]);
        for (index, field) in fields.iter().enumerate() {
            let payload = match field.ty {
                Type::V128 => Payload::Wide(method.add_wide(0)),
                _ => Payload::Const(0),
            };
            let zero = method.add_node(Opcode::Const, field.ty, &[], payload);
            self.store(method, at, (object, index), zero, scene);
        }
        scene.version = self.next_version();
        self.blocks.push(at.block);
    }

    fn store(
        &mut self,
        method: &mut Method<'_>,
        at: Point,
        (object, field): (Object, usize),
        value: Node,
        scene: &mut Scene,
    ) {
        let held = self.object(value);
        if let Some(fields) = scene.fields.get_mut(&object) {
            fields[field] = held.map_or(Value::Node(value), Value::Object);
        }
        scene.version = self.next_version();
        if let (None, Some(local)) = (held, self.locals[object].get(field)) {
            let set = method.add_node(Opcode::Set, Type::Void, &[value], Payload::Local(*local));
            self.edits.insert(at, set, SourcePos::NONE);
        }
    }

    /// What a field has; none if that is an object that is not made.
    fn value(
        &mut self,
        method: &mut Method<'_>,
        object: Object,
        field: usize,
        scene: &mut Scene,
    ) -> Option<Node> {
        let value = scene.fields.get_mut(&object)?.get_mut(field)?;
        match *value {
            Value::Node(node) => Some(node),
            Value::Object(_) => None,
            Value::AtHead => {
                let local = self.locals[object][field];
                let ty = method.local(local).ty;
                let entry = method.add_node(Opcode::Entry, ty, &[], Payload::Local(local));
                *value = Value::Node(entry);
                Some(entry)
            }
        }
    }

    /// A comparison of an object that is not made with itself, or with something else.
    fn compare(&mut self, method: &mut Method<'_>, node: Node) {
        let Some(if_equal) = comparison(method, node) else { return };
        let &[left, right] = method.operands(node) else { return };
        let (left, right) = (self.object(left), self.object(right));
        if left.is_none() && right.is_none() {
            return;
        }
        let bits = u64::from((left == right) == if_equal);
        let constant = method.add_node(Opcode::Const, method.ty(node), &[], Payload::Const(bits));
        self.edits.replace(node, constant);
    }
}

#[cfg(test)]
mod tests {
    use dagwood_il::{Bump, text};

    use super::*;
    use crate::{Options, Remarks, Request, Strategy, optimize};

    /// What is said of the first object that a method makes.
    fn said(source: &str, budget: Option<u64>) -> String {
        let arena = Bump::new();
        let mut parsed = text::parse(source, &arena).expect("valid");
        let strategy = Strategy::of_passes(&[PASS]);
        let options = Options { budget, remarks: Remarks::On, ..Options::default() };
        let request = Request::new(&parsed.module, &strategy, &options);
        let report = optimize(&request, &mut parsed.bodies[0].method, &mut ()).expect("nothing goes wrong");
        report.remarks.first().expect("there is a remark").text.clone()
    }

    #[test]
    fn what_there_is_no_time_for_escapes_nowhere_and_is_made() {
        let source = "class @Box size 32\nsymbol @value field @Box 16 i32\nmethod @f ($x: i32) -> (i32) {\nb0:\n  %x = entry.i32 $x\n  \
                      %p = new @Box\n  store @value [%p + 16], %x\n  %y = load.i32 @value [%p + 16]\n  return %y\n}\n";
        assert_eq!(said(source, Some(4)), "the object is made: there was no time to follow it");
        assert_eq!(said(source, None), "nobody else sees the object: its fields are values");
    }

    #[test]
    fn objects_that_frame_states_would_show_too_often_are_made() {
        // A chain of objects, one of which changes before each of so many frame states of the first.
        let source = |frames: usize| {
            let mut source = String::from("class @P size 272\nsymbol @next field @P 16 ref\n");
            (1..32)
                .for_each(|field| source += &format!("symbol @f{field} field @P {} i64\n", 16 + 8 * field));
            source += "method @f ($x: i64) -> () {\nb0:\n  %x = entry.i64 $x\n";
            (0..8).for_each(|object| source += &format!("  %p{object} = new @P\n"));
            (1..8)
                .for_each(|object| source += &format!("  store @next [%p{} + 16], %p{object}\n", object - 1));
            for frame in 0..frames {
                let (object, field) = (frame % 8, 1 + frame % 31);
                source += &format!("  store @f{field} [%p{object} + {}], %x\n", 16 + 8 * field);
                source += &format!("  %s{frame} = frame @f:{frame} reexecute [%p0] []\n");
                source += &format!("  guard [custom 4] frame %s{frame}\n");
            }
            source + "  return\n}\n"
        };
        assert!(said(&source(4), None).starts_with("nobody else sees the object, nor 7 more"));
        assert_eq!(said(&source(400), None), "frame states would show too often what the object has");
    }
}
