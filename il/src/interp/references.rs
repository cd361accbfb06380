//! The references that an interpretation holds, for hosts whose objects move.

use crate::eval::Value;
use crate::raise::RaiseKind;
use crate::types::Type;

use super::frame::{Frame, Stacks};
use super::host::{Host, References};
use super::machine::Machine;

/// Those of all frames.
struct Held<'h, 'p, 'a> {
    stacks: &'h mut Stacks<'p, 'a>,
    top: &'h mut Frame<'p, 'a>,
}

impl References for Held<'_, '_, '_> {
    fn each(&mut self, visit: &mut dyn FnMut(&mut u64)) {
        let mut value = |value: &mut Value| {
            if value.ty() == Type::Ref {
                let mut reference = value.low();
                visit(&mut reference);
                *value = Value::reference(reference);
            }
        };
        let Stacks { suspended, cells, locals, journal, .. } = &mut *self.stacks;
        locals.iter_mut().for_each(&mut value);
        journal.iter_mut().for_each(|(_, set)| value(set));
        for frame in suspended.iter().chain([&*self.top]) {
            let cells = &mut cells[frame.cells..frame.cells_end()];
            // What another epoch left behind is not read again.
            let current = cells.iter_mut().filter(|cell| cell.epoch == frame.epoch);
            current.for_each(|cell| value(&mut cell.value));
        }
        for frame in suspended.iter_mut().chain([&mut *self.top]) {
            if let Some(caught) = &mut frame.caught
                && caught.kind == RaiseKind::Guest
            {
                visit(&mut caught.object);
            }
        }
    }
}

impl<H: Host + ?Sized> Machine<'_, '_, '_, H> {
    /// Asks the host for something that may move objects.
    pub(super) fn ask<T>(&mut self, ask: impl FnOnce(&mut H) -> T) -> T {
        let (stacks, top) = (&mut self.interpreter.stacks, &mut self.top);
        self.host.park(&mut Held { stacks, top });
        let answer = ask(self.host);
        self.host.unpark(&mut Held { stacks, top });
        answer
    }
}
