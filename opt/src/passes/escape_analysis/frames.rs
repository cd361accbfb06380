//! Frame states of roots that stay, with virtual objects for those that are not made.
//!
//! *Guarantees.* A frame state that shows no such object stays the same node. Between two changes of any field, what shows an object is
//! one node, and one frame state is one; after a change it is another, since virtual objects are of a moment.
//!
//! *Cost.* Linear in what is shown.

use std::collections::BTreeMap;

use dagwood_il::entity::EntityVec;
use dagwood_il::{Method, Node, Opcode, Payload, Type, VirtualData};

use super::{Replacement, Scene, Value};
use crate::analysis::escape::Object;

/// What a frame state may show that is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    /// A frame state, or a virtual object that was there.
    Old(Node),
    /// An object that is not made.
    Object(Object),
}

/// The nodes that have been made, by what they show and the version of the scene.
pub(super) struct Frames {
    /// The numbers of objects.
    ids: EntityVec<Object, u32>,
    made: BTreeMap<(u32, Shown), Node>,
}

impl Frames {
    pub(super) fn new(method: &Method<'_>, objects: usize) -> Frames {
        let mut ids = EntityVec::new();
        for id in method.free_virtual_ids().take(objects) {
            ids.push(id);
        }
        Frames { ids, made: BTreeMap::new() }
    }
}

impl Replacement<'_> {
    /// The frame state of a root shows objects as they are in the scene.
    pub(super) fn frame(&mut self, method: &mut Method<'_>, root: Node, scene: &mut Scene) {
        let Some(frame) = method.frame_of(root).filter(|_| !scene.fields.is_empty()) else { return };
        if let Some(known) = self.frames.made.get(&(scene.version, Shown::Old(frame))) {
            return self.show(method, root, *known);
        }
        let (shown, has_objects) = self.shown(method, frame, scene);
        if !has_objects {
            return;
        }
        // Frame states come after their parents, and these after virtual objects, which may hold each other.
        let is_frame =
            |shown: &Shown| matches!(shown, Shown::Old(node) if method.opcode(*node) == Opcode::Frame);
        let (mut frames, objects): (Vec<Shown>, Vec<Shown>) = shown.into_iter().partition(is_frame);
        frames.reverse();
        let mut fresh = Vec::new();
        for object in objects {
            if self.frames.made.contains_key(&(scene.version, object)) {
                continue;
            }
            let payload = self.virtual_payload(method, object);
            let node = method.add_node(Opcode::Virtual, Type::Void, &[], payload);
            self.frames.made.insert((scene.version, object), node);
            fresh.push((object, node));
        }
        for (object, node) in fresh {
            let operands = self.operands(method, object, scene);
            method.replace_node(node, Opcode::Virtual, &operands, method.payload(node));
        }
        for shown in frames {
            let Shown::Old(frame) = shown else { continue };
            let operands = self.operands(method, shown, scene);
            let node = method.add_node(Opcode::Frame, Type::Void, &operands, method.payload(frame));
            self.frames.made.insert((scene.version, shown), node);
        }
        if let Some(made) = self.frames.made.get(&(scene.version, Shown::Old(frame))) {
            self.show(method, root, *made);
        }
    }

    fn show(&mut self, method: &Method<'_>, root: Node, frame: Node) {
        let last = method.operands(root).len() - 1;
        self.edits.replace_operand(root, last, frame);
    }

    /// All that a frame state shows that is no value, the frame state first, and whether there are objects that are not made.
    fn shown(&self, method: &Method<'_>, frame: Node, scene: &Scene) -> (Vec<Shown>, bool) {
        let mut shown = vec![Shown::Old(frame)];
        let mut seen = std::collections::BTreeSet::from([Shown::Old(frame)]);
        let (mut next, mut has_objects) = (0, false);
        while let Some(at) = shown.get(next).copied() {
            next += 1;
            let below: Vec<Shown> = match at {
                Shown::Old(node) => {
                    method.operands(node).iter().filter_map(|node| self.of(method, *node)).collect()
                }
                Shown::Object(object) => {
                    has_objects = true;
                    let fields = scene.fields.get(&object).map_or(&[][..], Vec::as_slice);
                    let held = |value: &Value| match value {
                        Value::Object(object) => Some(Shown::Object(*object)),
                        Value::AtHead | Value::Node(_) => None,
                    };
                    fields.iter().filter_map(held).collect()
                }
            };
            shown.extend(below.into_iter().filter(|found| seen.insert(*found)));
        }
        (shown, has_objects)
    }

    /// What an operand of a frame state shows, if it is no value.
    fn of(&self, method: &Method<'_>, node: Node) -> Option<Shown> {
        match method.opcode(node) {
            Opcode::Frame | Opcode::Virtual => Some(Shown::Old(node)),
            _ => self.object(node).map(Shown::Object),
        }
    }

    fn virtual_payload(&self, method: &mut Method<'_>, shown: Shown) -> Payload {
        match shown {
            Shown::Old(node) => method.payload(node),
            Shown::Object(object) => {
                let id = self.frames.ids[object];
                let kind = self.escapes.data(object).shape.kind;
                Payload::Virtual(method.add_virtual(VirtualData { id, kind }))
            }
        }
    }

    /// The operands of what is made for `shown`.
    fn operands(&mut self, method: &mut Method<'_>, shown: Shown, scene: &mut Scene) -> Vec<Node> {
        let version = scene.version;
        match shown {
            Shown::Old(node) => {
                let operands = method.operands(node).to_vec();
                let made = |node: Node| match self.of(method, node) {
                    Some(shown) => self.frames.made.get(&(version, shown)).copied().unwrap_or(node),
                    None => node,
                };
                operands.into_iter().map(made).collect()
            }
            Shown::Object(object) => {
                let count = scene.fields.get(&object).map_or(0, Vec::len);
                let mut operands = Vec::with_capacity(count);
                for field in 0..count {
                    let held = match scene.fields[&object][field] {
                        Value::Object(held) => self.frames.made.get(&(version, Shown::Object(held))).copied(),
                        Value::AtHead | Value::Node(_) => self.value(method, object, field, scene),
                    };
                    operands.extend(held);
                }
                operands
            }
        }
    }
}
