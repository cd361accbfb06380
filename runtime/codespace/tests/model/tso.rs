//! A machine with the memory of x86-64, and an exploration of everything that it can do with a few small programs.
//!
//! ```text
//!   thread ── stores ──► its buffer, first in first out ──(at any time)──► memory
//!          ◄── loads ─── its newest store of the place, else memory
//! ```
//!
//! A locked instruction and a fence wait for the thread's own buffer to be empty. The system's barrier empties those of
//! all threads: it interrupts each core, which drains it. (The model is x86-TSO: P. Sewell and others, 2010.)

use std::collections::HashSet;

/// A word of memory.
pub(crate) type Place = usize;
/// A register of a thread.
pub(crate) type Register = usize;

pub(crate) const PLACES: usize = 7;
/// What is in a thread's registers.
pub(crate) type Registers = [u8; 4];

/// One instruction.
#[derive(Clone, Copy)]
pub(crate) enum Op {
    /// Reads a word.
    Load(Register, Place),
    /// Writes a constant.
    Store(Place, u8),
    /// Writes a register.
    Save(Place, Register),
    /// Adds one to a word at once; the register gets what it was.
    Bump(Register, Place),
    /// Waits until a word is zero, and makes it one at once.
    Lock(Place),
    /// Empties the thread's buffer.
    Fence,
    /// Empties each thread's buffer.
    Barrier,
    /// Leaves the next instructions out, as many as said, unless the registers hold what they should.
    Unless(fn(&Registers) -> bool, usize),
    /// Uses a thing, which must not have been given away.
    Use(u8),
    /// Gives a thing away.
    Give(u8),
}

/// What one thread does.
pub(crate) type Program = Vec<Op>;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Thread {
    at: usize,
    registers: Registers,
    buffer: Vec<(Place, u8)>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    threads: Vec<Thread>,
    memory: [u8; PLACES],
    /// A bit for each thing.
    given: u8,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Explored {
    /// The states that were seen.
    pub(crate) states: usize,
    /// Whether a thing was used after it was given away.
    pub(crate) is_lost: bool,
    /// A bit for each thing that was given away in some end.
    pub(crate) given: u8,
}

/// All that the machine can do from `memory` on, up to the first use of what was given away.
pub(crate) fn explore(memory: [u8; PLACES], programs: &[Program]) -> Explored {
    let thread = Thread { at: 0, registers: [0; 4], buffer: Vec::new() };
    let start = State { threads: vec![thread; programs.len()], memory, given: 0 };
    let mut seen = HashSet::from([start.clone()]);
    let mut stack = vec![start];
    let mut explored = Explored { states: 0, is_lost: false, given: 0 };
    while let Some(state) = stack.pop() {
        explored.states += 1;
        let mut is_end = true;
        for (thread, program) in programs.iter().enumerate() {
            for next in [state.flush(thread), state.step(thread, program)].into_iter().flatten() {
                is_end = false;
                let Ok(next) = next else {
                    explored.is_lost = true;
                    return explored;
                };
                if seen.insert(next.clone()) {
                    stack.push(next);
                }
            }
        }
        if is_end {
            let is_over = |(thread, program): (&Thread, &Program)| thread.at == program.len();
            assert!(state.threads.iter().zip(programs).all(is_over), "no thread waits for ever");
            explored.given |= state.given;
        }
    }
    explored
}

/// A thing was used after it was given away.
struct Lost;

impl State {
    /// The oldest store of a thread reaches memory.
    fn flush(&self, thread: usize) -> Option<Result<State, Lost>> {
        let mut next = self.clone();
        if next.threads[thread].buffer.is_empty() {
            return None;
        }
        let (place, value) = next.threads[thread].buffer.remove(0);
        next.memory[place] = value;
        Some(Ok(next))
    }

    /// A thread does its next instruction, if it has one and need not wait.
    fn step(&self, index: usize, program: &Program) -> Option<Result<State, Lost>> {
        let op = *program.get(self.threads[index].at)?;
        let mut next = self.clone();
        let State { threads, memory, given } = &mut next;
        let waits = match op {
            Op::Bump(..) | Op::Lock(_) | Op::Fence => !threads[index].buffer.is_empty(),
            _ => false,
        };
        if waits {
            return None;
        }
        if let Op::Barrier = op {
            for (place, value) in threads.iter_mut().flat_map(|thread| thread.buffer.drain(..)) {
                memory[place] = value;
            }
        }
        let thread = &mut threads[index];
        thread.at += 1;
        match op {
            Op::Load(register, place) => {
                let own = thread.buffer.iter().rev().find(|(stored, _)| *stored == place);
                thread.registers[register] = own.map_or(memory[place], |(_, value)| *value);
            }
            Op::Store(place, value) => thread.buffer.push((place, value)),
            Op::Save(place, register) => thread.buffer.push((place, thread.registers[register])),
            Op::Bump(register, place) => {
                thread.registers[register] = memory[place];
                memory[place] += 1;
            }
            Op::Lock(place) if memory[place] != 0 => return None,
            Op::Lock(place) => memory[place] = 1,
            Op::Fence | Op::Barrier => {}
            Op::Unless(holds, count) => thread.at += if holds(&thread.registers) { 0 } else { count },
            Op::Use(thing) if *given & 1 << thing != 0 => return Some(Err(Lost)),
            Op::Use(_) => {}
            Op::Give(thing) => *given |= 1 << thing,
        }
        Some(Ok(next))
    }
}
