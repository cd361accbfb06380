//! Tables of a store. An element is a word: the address of a function record, or what the host chose.

use dagwood_runtime::memory::{Limits as Reserve, LinearMemory};

use super::{State, Store, Table, TableData, no_memory, publish, wrong_type};
use crate::error::{Error, ErrorKind};
use crate::layout::WORD_BYTES;
use crate::module::MAX_TABLE_ELEMENTS;
use crate::types::{Limits, TableType};
use crate::value::Val;

const WORD: usize = WORD_BYTES as usize;

impl Store {
    /// Makes a table whose elements are all `value`.
    ///
    /// # Errors
    ///
    /// `Limit` if it is larger than [`MAX_TABLE_ELEMENTS`] or than the system has, `Usage` if the value is of another type.
    pub fn new_table(&self, ty: TableType, value: Val) -> Result<Table, Error> {
        if value.ty() != ty.element {
            return Err(wrong_type(ty.element, value.ty()));
        }
        let bits = self.bits(value)?;
        let mut state = self.state();
        let table = state.new_table(ty)?;
        let length = ty.limits.min;
        state.tables[table.index()].fill(0, bits, length);
        Ok(table)
    }

    /// An element of a table; none beyond its end.
    pub fn table_element(&self, table: Table, index: u64) -> Option<Val> {
        let (bits, ty) = {
            let state = self.state();
            let data = &state.tables[table.index()];
            (data.get(index)?, data.ty.element)
        };
        Some(self.value(ty, bits))
    }
}

impl State {
    pub(crate) fn new_table(&mut self, ty: TableType) -> Result<Table, Error> {
        let Limits { min, max, .. } = ty.limits;
        if min > MAX_TABLE_ELEMENTS {
            let message = format!("a table of {min} elements; {MAX_TABLE_ELEMENTS} are allowed");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let allowed = self.options.max_memory_bytes.saturating_sub(self.memory_bytes()) / WORD as u64;
        if min > allowed {
            let message = format!("a table of {min} elements; {allowed} are left");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let largest = max.unwrap_or(u64::MAX).clamp(min, MAX_TABLE_ELEMENTS) as usize * WORD;
        let reserve = Reserve { cap: largest, reserve: largest };
        let cells = LinearMemory::new(min as usize * WORD, &reserve).map_err(no_memory)?;
        self.tables.push(TableData { cells, ty, views: Vec::new() });
        let table = Table::new(self.tables.len() - 1);
        self.publish_table(table);
        Ok(table)
    }

    /// Tells everybody where a table is and how long.
    pub(crate) fn publish_table(&mut self, table: Table) {
        let data = &self.tables[table.index()];
        let address = data.cells.address();
        publish(&data.views, address, data.len());
        self.view.open(address..address + data.cells.len());
    }

    /// The type of a table with the limits as they are now.
    pub(crate) fn table_type(&self, table: Table) -> TableType {
        let data = &self.tables[table.index()];
        TableType { limits: Limits { min: data.len(), ..data.ty.limits }, ..data.ty }
    }

    pub(crate) fn grow_table(&mut self, table: Table, value: u64, count: u64) -> Option<u64> {
        let allowed = self.options.max_memory_bytes.saturating_sub(self.memory_bytes()) / WORD as u64;
        let data = &mut self.tables[table.index()];
        let before = data.len();
        let after =
            before.checked_add(count).filter(|after| count <= allowed && *after <= MAX_TABLE_ELEMENTS)?;
        if after as usize * WORD > data.cells.reserved() {
            return None;
        }
        data.cells.grow(count as usize * WORD).ok()?;
        data.fill(before, value, count);
        self.publish_table(table);
        Some(before)
    }

    /// Copies elements between tables, or within one; nothing if either range is out of bounds.
    pub(crate) fn copy_table(&mut self, to: Table, from: Table, places: [u64; 3]) -> Option<()> {
        let [destination, source, count] = places;
        let source_range = self.tables[from.index()].range(source, count)?;
        let range = self.tables[to.index()].range(destination, count)?;
        if to == from {
            self.tables[to.index()].cells.as_mut_slice().copy_within(source_range, range.start);
        } else {
            let (low, high) = (to.index().min(from.index()), to.index().max(from.index()));
            let (before, after) = self.tables.split_at_mut(high);
            let (low, high) = (&mut before[low].cells, &mut after[0].cells);
            let (to, from) = if to < from { (low, high) } else { (high, low) };
            to.as_mut_slice()[range].copy_from_slice(&from.as_slice()[source_range]);
        }
        Some(())
    }
}

impl TableData {
    pub(crate) fn len(&self) -> u64 {
        (self.cells.len() / WORD) as u64
    }

    /// The bytes of `count` elements from `start`; nothing if that is out of bounds.
    fn range(&self, start: u64, count: u64) -> Option<std::ops::Range<usize>> {
        let end = start.checked_add(count).filter(|end| *end <= self.len())?;
        Some(start as usize * WORD..end as usize * WORD)
    }

    pub(crate) fn get(&self, index: u64) -> Option<u64> {
        let range = self.range(index, 1)?;
        let mut word = [0; WORD];
        word.copy_from_slice(&self.cells.as_slice()[range]);
        Some(u64::from_le_bytes(word))
    }

    /// Sets elements; nothing if that is out of bounds.
    pub(crate) fn fill(&mut self, start: u64, value: u64, count: u64) -> Option<()> {
        let range = self.range(start, count)?;
        for cell in self.cells.as_mut_slice()[range].chunks_exact_mut(WORD) {
            cell.copy_from_slice(&value.to_le_bytes());
        }
        Some(())
    }

    /// Copies `count` references from `source` of a segment; nothing if either range is out of bounds.
    pub(crate) fn init(&mut self, start: u64, segment: &[u64], source: u64, count: u64) -> Option<()> {
        let end = source.checked_add(count).filter(|end| *end <= segment.len() as u64)?;
        let range = self.range(start, count)?;
        let cells = self.cells.as_mut_slice()[range].chunks_exact_mut(WORD);
        for (cell, value) in cells.zip(&segment[source as usize..end as usize]) {
            cell.copy_from_slice(&value.to_le_bytes());
        }
        Some(())
    }
}
