//! What lowered code asks of its store, in both modes: arguments and results are words.

use dagwood_il as il;
use il::RaiseKind;
use il::interp::Raised;

use super::{FuncData, InstanceId, Memory, State, Store, Table};
use crate::imports::Caller;
use crate::lower::NativeFunction;
use crate::trap::{HostStop, reason};
use crate::value::Val;

/// How an answer of "no" to a growth reads.
const REFUSED: u64 = u64::MAX;

fn out_of_bounds(reason: u16) -> Raised {
    Raised::new(RaiseKind::Bounds, reason)
}

impl State {
    /// Does what a native function is for. The result is a word, where there is one.
    ///
    /// # Errors
    ///
    /// What the function raises.
    pub(crate) fn native(&mut self, function: NativeFunction, args: &[u64]) -> Result<Option<u64>, Raised> {
        let table_fault = out_of_bounds(reason::TABLE);
        let memory_fault = out_of_bounds(reason::MEMORY);
        match (function, args) {
            (NativeFunction::MemoryGrow, [instance, memory, pages]) => {
                let memory = self.memory_of(*instance, *memory);
                Ok(Some(self.grow_memory(memory, *pages).unwrap_or(REFUSED)))
            }
            (NativeFunction::MemoryInit, [instance, memory, segment, places @ ..]) => {
                self.init_memory(*instance, *memory, *segment, places).ok_or(memory_fault)?;
                Ok(None)
            }
            (NativeFunction::MemoryCopy, [instance, to, from, places @ ..]) => {
                let (to, from) = (self.memory_of(*instance, *to), self.memory_of(*instance, *from));
                self.copy_memory(to, from, places).ok_or(memory_fault)?;
                Ok(None)
            }
            (NativeFunction::DataDrop, [instance, segment]) => {
                self.instances[*instance as usize].dropped_data[*segment as usize] = true;
                Ok(None)
            }
            (NativeFunction::TableGrow, [instance, table, value, count]) => {
                let table = self.table_of(*instance, *table);
                Ok(Some(self.grow_table(table, *value, *count).unwrap_or(REFUSED)))
            }
            (NativeFunction::TableFill, [instance, table, start, value, count]) => {
                let table = self.table_of(*instance, *table);
                self.tables[table.index()].fill(*start, *value, *count).ok_or(table_fault)?;
                Ok(None)
            }
            (NativeFunction::TableCopy, [instance, to, from, destination, source, count]) => {
                let (to, from) = (self.table_of(*instance, *to), self.table_of(*instance, *from));
                self.copy_table(to, from, [*destination, *source, *count]).ok_or(table_fault)?;
                Ok(None)
            }
            (NativeFunction::TableInit, [instance, table, segment, destination, source, count]) => {
                let table = self.table_of(*instance, *table);
                let segment = self.instances[*instance as usize].elements[*segment as usize].clone();
                let data = &mut self.tables[table.index()];
                data.init(*destination, &segment, *source, *count).ok_or(table_fault)?;
                Ok(None)
            }
            (NativeFunction::ElemDrop, [instance, segment]) => {
                self.instances[*instance as usize].elements[*segment as usize] = [].into();
                Ok(None)
            }
            (NativeFunction::ExceptionNew, [_, tag, values]) => {
                let full = Raised::new(RaiseKind::OutOfMemory, reason::EXCEPTIONS);
                self.exceptions.allocate(*tag, *values).map(Some).ok_or(full)
            }
            (NativeFunction::ExceptionFree, [_, exception]) => {
                self.free_exception(*exception);
                Ok(None)
            }
            _ => unreachable!("lowering passes as many arguments as the function has parameters"),
        }
    }

    fn memory_of(&self, instance: u64, memory: u64) -> Memory {
        self.instances[instance as usize].memories[memory as usize]
    }

    fn table_of(&self, instance: u64, table: u64) -> Table {
        self.instances[instance as usize].tables[table as usize]
    }

    /// Copies bytes of a data segment to a memory; nothing if either range is out of bounds.
    pub(crate) fn init_memory(
        &mut self,
        instance: u64,
        memory: u64,
        segment: u64,
        places: &[u64],
    ) -> Option<()> {
        let [destination, source, count] = *places else { return None };
        let memory = self.memory_of(instance, memory);
        let data = &self.instances[instance as usize];
        let module = data.compiled.module().clone();
        let bytes = match data.dropped_data[segment as usize] {
            true => &[][..],
            false => &module.bytes[module.data[segment as usize].range.clone()],
        };
        let source = range(source, count, bytes.len())?;
        let memory = self.memories[memory.index()].bytes.as_mut_slice();
        let destination = range(destination, count, memory.len())?;
        memory[destination].copy_from_slice(&bytes[source]);
        Some(())
    }

    /// Copies bytes between two memories; nothing if either range is out of bounds.
    fn copy_memory(&mut self, to: Memory, from: Memory, places: &[u64]) -> Option<()> {
        let [destination, source, count] = *places else { return None };
        let source = range(source, count, self.memories[from.index()].bytes.len())?;
        let destination = range(destination, count, self.memories[to.index()].bytes.len())?;
        if to == from {
            // Two imports may be the same memory.
            self.memories[to.index()].bytes.as_mut_slice().copy_within(source, destination.start);
            return Some(());
        }
        let high = to.index().max(from.index());
        let (before, after) = self.memories.split_at_mut(high);
        let low = &mut before[to.index().min(from.index())].bytes;
        let high = &mut after[0].bytes;
        let (to, from) = if to < from { (low, high) } else { (high, low) };
        to.as_mut_slice()[destination].copy_from_slice(&from.as_slice()[source]);
        Some(())
    }
}

/// `count` places from `start`; nothing beyond `length`.
fn range(start: u64, count: u64, length: usize) -> Option<std::ops::Range<usize>> {
    let end = start.checked_add(count).filter(|end| *end <= length as u64)?;
    Some(start as usize..end as usize)
}

/// What the context of a host function says: which function, and for which instance it was imported.
pub(crate) fn host_word(function: u32, instance: InstanceId) -> u64 {
    u64::from(function) | u64::from(instance.number()) << 32
}

impl Store {
    /// Calls the host function that a context's word names.
    ///
    /// # Errors
    ///
    /// A fault if it fails; the store keeps what it has to say.
    pub(crate) fn call_host(&self, word: u64, args: &[u64]) -> Result<Vec<u64>, Raised> {
        let data = self.state().functions[word as u32 as usize].clone();
        let FuncData::Host { function, ty, .. } = data else {
            unreachable!("the context of a host function names a host function")
        };
        let instance = InstanceId::new((word >> 32) as usize);
        let args: Vec<Val> = ty.params.iter().zip(args).map(|(ty, bits)| self.value(*ty, *bits)).collect();
        let caller = Caller { store: self, instance: Some(instance) };
        let results = function.call(&caller, &args);
        results.and_then(|results| self.host_results(&ty, &results)).map_err(|stop| self.raised(stop))
    }

    /// What a stop raises in the program that called the host. A fault is explained by what the store keeps.
    fn raised(&self, stop: HostStop) -> Raised {
        let mut state = self.state();
        let code = match &stop {
            HostStop::Exit(_) => reason::EXIT,
            HostStop::Failed(_) => reason::HOST,
            HostStop::Trap(trap) => match (trap.kind, trap.exception) {
                (RaiseKind::Fault, _) => reason::HOST,
                (RaiseKind::Guest, exception) => {
                    match exception.and_then(|exception| state.exceptions.address(exception)) {
                        Some(object) => return Raised::guest(object),
                        None => reason::HOST,
                    }
                }
                (kind, _) => return Raised::new(kind, trap.reason),
            },
        };
        state.stopped = Some(stop);
        Raised::new(RaiseKind::Fault, code)
    }

    /// The results of a host function as words, if they are of its type.
    pub(crate) fn host_results(
        &self,
        ty: &crate::types::FuncType,
        results: &[Val],
    ) -> Result<Vec<u64>, HostStop> {
        if !results.iter().map(Val::ty).eq(ty.results.iter().copied()) {
            return Err(HostStop::Failed(
                format!("a host function of type {ty} returned {results:?}").into(),
            ));
        }
        let bits = |value: &Val| self.bits(*value).map_err(|error| HostStop::Failed(error.into()));
        results.iter().map(bits).collect()
    }
}
