//! The frame states of sites, as plain data.
//!
//! ```text
//!   call … frame @m:3 after [$x: %1, dead, null] [] parent %f    ─►   FrameState { @m, 3, after, parent } ─► [Unknown, Dead, Constant]
//! ```
//!
//! A frame state names nodes. What code does with them is Cranelift's business, which does not tell where values are; asking it to
//! keep them somewhere would cost registers in hot code. So a site tells what is free: constants, slots that nobody reads, and
//! references that have a place in the frame anyway because objects may move there. Of an object that was optimized away it tells
//! the same about what that holds.
//!
//! *Guarantees.* A state stands behind its parent, so lists have no cycles. Equal states of sites with equal maps are one.

use std::collections::BTreeMap;

use cranelift_codegen::CompiledCode;
use dagwood_il::entity::Entity;
use dagwood_il::{Method, Node, Opcode, Payload, VirtualData};

use crate::artifact::{Artifact, FrameState, Location, VirtualObject};
use crate::sites::{Origin, node_of};

/// The frame states of one method.
pub(crate) struct Frames<'c, 'o, 'a> {
    compiled: &'c CompiledCode,
    origin: &'o Origin<'o, 'a>,
    /// By frame node and the map of the site: the index of the state.
    known: BTreeMap<(u32, Vec<u32>), u32>,
    /// The same for virtual objects.
    virtuals: BTreeMap<(u32, Vec<u32>), u32>,
}

impl<'c, 'o, 'a> Frames<'c, 'o, 'a> {
    pub(crate) fn new(compiled: &'c CompiledCode, origin: &'o Origin<'o, 'a>) -> Self {
        Frames { compiled, origin, known: BTreeMap::new(), virtuals: BTreeMap::new() }
    }

    /// The state of the node at a location, at a site whose map lists these references.
    pub(crate) fn of(&mut self, location: u32, map: &[u32], artifact: &mut Artifact) -> Option<u32> {
        let method = self.origin.method?;
        let innermost = method.frame_of(node_of(method, location)?)?;
        let parent = |frame: &Node| method.operands(*frame).get(count(method, *frame)).copied();
        // Operands stand before their users in a method that is well-formed, so this ends.
        let chain: Vec<Node> =
            std::iter::successors(Some(innermost), parent).take(method.node_count()).collect();
        let mut state = None;
        for frame in chain.into_iter().rev() {
            let key = (frame.index() as u32, map.to_vec());
            state = Some(match self.known.get(&key) {
                Some(known) => *known,
                None => {
                    let made = self.make(method, frame, state, map, artifact)?;
                    self.known.insert(key, made);
                    made
                }
            });
        }
        state
    }

    fn make(
        &mut self,
        method: &Method<'_>,
        frame: Node,
        parent: Option<u32>,
        map: &[u32],
        artifact: &mut Artifact,
    ) -> Option<u32> {
        let Payload::Frame(info) = method.payload(frame) else { return None };
        let data = method.frame(info);
        let mut found = Vec::new();
        let values = &method.operands(frame)[..count(method, frame)];
        let first = self.list(method, values, map, artifact, &mut found);
        while let Some((object, node)) = found.pop() {
            let fields = method.operands(node);
            let first = self.list(method, fields, map, artifact, &mut found);
            artifact.virtuals[object as usize].first = first;
        }
        let index = artifact.frames.len() as u32;
        artifact.frames.push(FrameState {
            method: data.method,
            position: data.position,
            mode: data.mode,
            first,
            locals: data.locals,
            stack: data.stack,
            monitors: data.monitors,
            parent,
        });
        Some(index)
    }

    /// Lists where values are, and says where that list starts. Of virtual objects that are new, `found` is told.
    fn list(
        &mut self,
        method: &Method<'_>,
        values: &[Node],
        map: &[u32],
        artifact: &mut Artifact,
        found: &mut Vec<(u32, Node)>,
    ) -> u32 {
        let first = artifact.locations.len() as u32;
        for value in values {
            let location = match method.payload(*value) {
                Payload::Virtual(info) => {
                    let next = artifact.virtuals.len() as u32;
                    let key = (value.index() as u32, map.to_vec());
                    let object = *self.virtuals.entry(key).or_insert(next);
                    if object == next {
                        let VirtualData { id, kind } = method.virtual_object(info);
                        let count = method.operands(*value).len() as u32;
                        artifact.virtuals.push(VirtualObject { id, kind, first: 0, count });
                        found.push((object, *value));
                    }
                    Location::Virtual(object)
                }
                _ => self.location(method, *value, map),
            };
            artifact.locations.push(location);
        }
        first
    }

    fn location(&self, method: &Method<'_>, value: Node, map: &[u32]) -> Location {
        if method.opcode(value) == Opcode::Dead {
            return Location::Dead;
        }
        if let Some(bits) = method.const_bits(value) {
            return Location::Constant(method.ty(value), bits);
        }
        let kept = self.origin.kept;
        let slot = kept.binary_search_by_key(&value, |(node, _)| *node).ok().map(|index| kept[index].1);
        let layout = self.compiled.buffer.frame_layout();
        let distance =
            slot.zip(layout).map(|(slot, layout)| layout.frame_to_fp_offset - layout.stackslots[slot].offset);
        match distance.filter(|distance| map.contains(distance)) {
            Some(distance) => Location::Reference(distance),
            None => Location::Unknown,
        }
    }
}

/// How many operands of a frame state are values.
fn count(method: &Method<'_>, frame: Node) -> usize {
    let Payload::Frame(info) = method.payload(frame) else { return 0 };
    let data = method.frame(info);
    let count = usize::from(data.locals) + usize::from(data.stack) + usize::from(data.monitors);
    count.min(method.operands(frame).len())
}
