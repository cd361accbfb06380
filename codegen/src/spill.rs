//! References live in the frame where objects may move.
//!
//! ```text
//!   v1 = call …                       v1 = call …
//!   call g()          ─►              store v1, [slot]
//!   use v1                            call g()            map: [slot]
//!                                     v2 = load [slot]
//!                                     use v2
//! ```
//!
//! A reference that is live across a *safepoint*, a call during which objects may move, gets a slot of the frame. It is stored there
//! where it is computed, once, and loaded again in each block that uses it behind a safepoint, once for each stretch without one.
//! The map of a safepoint lists the slots of what is live across it; whoever moves an object changes the slot.
//!
//! # Why
//!
//! Cranelift does not tell where it keeps values, and its frontend's way, a load at each use, needs an optimizer behind it that we
//! leave out. Spilling around each safepoint instead would keep references in registers in loops whose safepoints are rare, but
//! needs new names for them behind every safepoint and parameters where paths meet.
//!
//! # Guarantees
//!
//! * A reference is used in the block that computes it without a load, up to the first safepoint: code without safepoints is as it was.
//! * Every slot that a map lists has been written on every way there: what is live was computed before.
//! * Only what is used behind a safepoint is listed: objects are not kept by references that are dead.
//!
//! # Cost
//!
//! In proportion to the instructions, to the blocks that each reference is live through, which are at most [`MAX_LIVE`] together,
//! and to what the maps list, at most [`MAX_LISTED`] together: Cranelift takes each map as a list of its own, equal ones too, and
//! makes it a set of bits as long as the frame, so slots times maps are at most [`MAX_PLACES`]. What is above is refused by
//! name. Ten thousand safepoints with a thousand references each take 1.4 s and 210 MB. In the artifact equal maps are one.
//! A method without references, or without safepoints, costs nothing.

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::entity::{EntityRef, SecondaryMap};
use cranelift_codegen::flowgraph::ControlFlowGraph;
use cranelift_codegen::ir::{
    Block, Function, Inst, InstBuilder, StackSlot, StackSlotData, StackSlotKind, UserStackMapEntry, Value,
    ValueDef, types,
};
use dagwood_il::Node;

/// The blocks that references may be live through, counted for each reference.
const MAX_LIVE: usize = 1 << 24;
/// The references that the maps of a method list together, counted for each map. While it is compiled each takes 12 bytes.
const MAX_LISTED: usize = 1 << 24;
/// The slots that each map could list, counted for each map. While it is compiled each takes a byte.
const MAX_PLACES: usize = 1 << 27;

/// What a method has too much of, and the most that it may have.
pub(crate) struct TooMuch {
    pub(crate) what: &'static str,
    pub(crate) limit: usize,
}

/// The bytes of a reference.
const BYTES: u32 = 8;

/// What a method's references and safepoints are.
#[derive(Default)]
pub(crate) struct References {
    /// Values that are references; some may be named twice.
    pub(crate) values: Vec<Value>,
    /// Calls during which objects may move.
    pub(crate) safepoints: Vec<Inst>,
    /// The nodes whose values have slots, ascending.
    pub(crate) kept: Vec<(Node, StackSlot)>,
}

impl References {
    pub(crate) fn clear(&mut self) {
        self.values.clear();
        self.safepoints.clear();
        self.kept.clear();
    }
}

/// The pass over one function.
struct Spill<'f> {
    func: &'f mut Function,
    is_reference: SecondaryMap<Value, bool>,
    is_safepoint: SecondaryMap<Inst, bool>,
    /// By block, the references that are live at its end and not used up before.
    live_out: SecondaryMap<Block, Vec<Value>>,
    slots: Slots,
    slot_count: usize,
    /// How many maps list anything, and how much all of them list.
    map_count: usize,
    listed: usize,
}

/// The slots of values that have one.
pub(crate) type Slots = SecondaryMap<Value, Option<StackSlot>>;

/// Gives the function's references slots where objects may move.
pub(crate) fn spill(func: &mut Function, references: &References) -> Result<Slots, TooMuch> {
    if references.values.is_empty() || references.safepoints.is_empty() {
        return Ok(Slots::new());
    }
    let mut spill = Spill {
        is_reference: SecondaryMap::new(),
        is_safepoint: SecondaryMap::new(),
        live_out: SecondaryMap::new(),
        slots: Slots::new(),
        slot_count: 0,
        map_count: 0,
        listed: 0,
        func,
    };
    for value in &references.values {
        spill.is_reference[*value] = true;
    }
    for inst in &references.safepoints {
        spill.is_safepoint[*inst] = true;
    }
    spill.find_live()?;
    spill.find_spilled()?;
    if spill.map_count > 0 {
        spill.store();
        spill.load();
    }
    Ok(spill.slots)
}

impl Spill<'_> {
    fn blocks(&self) -> Vec<Block> {
        self.func.layout.blocks().collect()
    }

    /// The block that computes a value.
    fn home(&self, value: Value) -> Option<Block> {
        match self.func.dfg.value_def(value) {
            ValueDef::Result(inst, _) => self.func.layout.inst_block(inst),
            ValueDef::Param(block, _) => Some(block),
            ValueDef::Union(..) => None,
        }
    }

    /// Finds where references are live at the ends of blocks, from each use backwards to where the reference is computed.
    fn find_live(&mut self) -> Result<(), TooMuch> {
        let flow = ControlFlowGraph::with_function(self.func);
        let mut uses: Vec<(Value, Block)> = Vec::new();
        for block in self.func.layout.blocks() {
            for inst in self.func.layout.block_insts(block) {
                let values = self.func.dfg.inst_values(inst).filter(|value| self.is_reference[*value]);
                uses.extend(values.map(|value| (value, block)));
            }
        }
        uses.sort_unstable_by_key(|(value, block)| (value.index(), block.index()));
        uses.dedup();
        let mut seen: SecondaryMap<Block, Option<Value>> = SecondaryMap::new();
        let mut pending = Vec::new();
        let mut count = 0;
        for (value, block) in uses {
            let home = self.home(value);
            pending.push(block);
            while let Some(block) = pending.pop() {
                if Some(block) == home {
                    continue;
                }
                for edge in flow.pred_iter(block) {
                    if seen[edge.block].replace(value) != Some(value) {
                        count += 1;
                        if count > MAX_LIVE {
                            let what = "blocks that references are live through";
                            return Err(TooMuch { what, limit: MAX_LIVE });
                        }
                        self.live_out[edge.block].push(value);
                        pending.push(edge.block);
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the maps, and gives slots to what is in them.
    fn find_spilled(&mut self) -> Result<(), TooMuch> {
        // By value: the last block it was found live in, and where among what is live there.
        let mut live_in: SecondaryMap<Value, (Option<Block>, u32)> = SecondaryMap::new();
        for block in self.blocks() {
            let insts: Vec<Inst> = self.func.layout.block_insts(block).collect();
            if !insts.iter().any(|inst| self.is_safepoint[*inst]) {
                continue;
            }
            let mut live = std::mem::take(&mut self.live_out[block]);
            (0..).zip(&live).for_each(|(at, value)| live_in[*value] = (Some(block), at));
            for inst in insts.into_iter().rev() {
                for result in self.func.dfg.inst_results(inst) {
                    if self.is_reference[*result] && live_in[*result].0 == Some(block) {
                        let at = live_in[*result].1;
                        live.swap_remove(at as usize);
                        if let Some(moved) = live.get(at as usize) {
                            live_in[*moved].1 = at;
                        }
                    }
                }
                if self.is_safepoint[inst] {
                    self.map(inst, &live)?;
                }
                for value in self.func.dfg.inst_values(inst) {
                    if self.is_reference[value] && live_in[value].0 != Some(block) {
                        live_in[value] = (Some(block), live.len() as u32);
                        live.push(value);
                    }
                }
            }
        }
        let places = self.map_count.saturating_mul(self.slot_count);
        let what = "slots of references, counted for each safepoint";
        if places > MAX_PLACES { Err(TooMuch { what, limit: MAX_PLACES }) } else { Ok(()) }
    }

    /// Lists references in the map of a safepoint.
    fn map(&mut self, inst: Inst, live: &[Value]) -> Result<(), TooMuch> {
        self.map_count += usize::from(!live.is_empty());
        self.listed += live.len();
        if self.listed > MAX_LISTED {
            return Err(TooMuch { what: "references that maps of safepoints list", limit: MAX_LISTED });
        }
        for value in live {
            let (func, slot_count) = (&mut *self.func, &mut self.slot_count);
            let slot = *self.slots[*value].get_or_insert_with(|| {
                *slot_count += 1;
                func.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, BYTES, 3))
            });
            func.dfg.append_user_stack_map_entry(inst, UserStackMapEntry { ty: types::I64, slot, offset: 0 });
        }
        Ok(())
    }

    /// Stores every reference that has a slot, where it is computed.
    fn store(&mut self) {
        for block in self.blocks() {
            let params: Vec<Value> = self.func.dfg.block_params(block).to_vec();
            let first = self.func.layout.first_inst(block);
            if let Some(first) = first {
                params.iter().for_each(|param| self.store_before(*param, first));
            }
            let mut next = first;
            while let Some(inst) = next {
                next = self.func.layout.next_inst(inst);
                let results: Vec<Value> = self.func.dfg.inst_results(inst).to_vec();
                if let Some(next) = next {
                    results.iter().for_each(|result| self.store_before(*result, next));
                }
            }
        }
    }

    fn store_before(&mut self, value: Value, inst: Inst) {
        if let Some(slot) = self.slots[value] {
            let mut cursor = FuncCursor::new(self.func).at_inst(inst);
            cursor.ins().stack_store(types::I64, value, slot, 0);
        }
    }

    /// Loads references again where they may have moved.
    fn load(&mut self) {
        let mut fresh: SecondaryMap<Value, (u32, Option<Value>)> = SecondaryMap::new();
        let mut stretch = 0;
        for block in self.blocks() {
            stretch += 1;
            let params: Vec<Value> = self.func.dfg.block_params(block).to_vec();
            params.into_iter().for_each(|param| fresh[param] = (stretch, None));
            let mut next = self.func.layout.first_inst(block);
            while let Some(inst) = next {
                next = self.func.layout.next_inst(inst);
                let used: Vec<Value> = self.func.dfg.inst_values(inst).collect();
                for value in used {
                    if let Some(slot) = self.slots[value].filter(|_| fresh[value].0 != stretch) {
                        let mut cursor = FuncCursor::new(self.func).at_inst(inst);
                        let loaded = cursor.ins().stack_load(types::I64, types::I64, slot, 0);
                        fresh[value] = (stretch, Some(loaded));
                    }
                }
                let slots = &self.slots;
                self.func.dfg.map_inst_values(inst, |value| match (slots[value], fresh[value]) {
                    (Some(_), (at, Some(loaded))) if at == stretch => loaded,
                    _ => value,
                });
                if self.is_safepoint[inst] {
                    stretch += 1;
                }
                for result in self.func.dfg.inst_results(inst).to_vec() {
                    fresh[result] = (stretch, None);
                }
            }
        }
    }
}
