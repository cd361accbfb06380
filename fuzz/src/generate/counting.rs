//! Loops that count up to a limit, and accesses that are checked against a length: what passes know most about.

use dagwood_il::{Block, Local, Node, Opcode, Type};

use super::Generator;

/// Limits, lengths and starts are drawn below this, so that checks pass about as often as not and loops end soon.
const SMALL: u64 = 8;

/// What counts a loop's turns.
struct Counter {
    test: Opcode,
    ty: Type,
    step: u64,
    count: Local,
    limit: Local,
}

impl Generator<'_, '_> {
    /// A small number: a constant, or what is left of a value that nobody knows.
    fn small(&mut self, ty: Type) -> Node {
        if self.choices.one_in(3) {
            let number = self.choices.below(SMALL as usize) as u64;
            return self.builder.constant(ty, number);
        }
        let (value, mask) = (self.value(ty), self.builder.constant(ty, SMALL - 1));
        self.builder.op(Opcode::And, &[value, mask])
    }

    /// Accesses around one index of something of one length, all checked; or around some value, which mostly raises.
    pub(super) fn accesses(&mut self) {
        let ty = [Type::I32, Type::I64][self.choices.below(2)];
        let length = if self.choices.one_in(2) { self.small(ty) } else { self.value(ty) };
        let index = if self.choices.one_in(4) { self.value(ty) } else { self.small(ty) };
        // Checks of one reason may stand for each other; those of several may not.
        let reason = self.choices.below(2) as u16;
        for _ in 0..2 + self.choices.below(3) {
            let distance = self.choices.below(5) as u64;
            let distance = self.builder.constant(ty, distance.wrapping_sub(1) & ty.mask());
            let at = self.builder.op(Opcode::Add, &[index, distance]);
            let checked = self.builder.checked(Opcode::BoundsCheck, ty, &[at, length], reason);
            self.pool.push(checked);
            if self.choices.one_in(2) {
                self.show(checked);
            }
        }
    }

    /// A loop whose counter goes up by steps while a test of it and a limit holds; tested before each turn, or after it.
    pub(super) fn counting_loop(&mut self) {
        let here = self.here();
        let ty = [Type::I32, Type::I64][self.choices.below(2)];
        let test = [Opcode::Ne, Opcode::SLt, Opcode::ULt, Opcode::SLe][self.choices.below(4)];
        let (limit, start) = (self.small(ty), self.small(ty));
        // Whoever counts until they are equal must come by the limit.
        let (start, step) = match test {
            Opcode::Ne => (self.builder.op(Opcode::UMin, &[start, limit]), 1),
            _ => (start, 1 + self.choices.below(2) as u64),
        };
        let counter = Counter {
            test,
            ty,
            step,
            count: self.builder.local(&format!("u{here}"), ty),
            limit: self.builder.local(&format!("m{here}"), ty),
        };
        self.builder.set(counter.count, start);
        self.builder.set(counter.limit, limit);
        let after = self.head_like(here);
        match self.choices.one_in(2) {
            true => self.loop_tested_before(&counter, after),
            false => self.loop_tested_after(&counter, after),
        }
        self.begin(after);
    }

    fn loop_tested_before(&mut self, counter: &Counter, after: Block) {
        let header = self.head_like(after);
        self.builder.goto(header);
        self.begin(header);
        let goes_on = self.goes_on(counter);
        let (_, body) = self.after(header);
        self.builder.branch(goes_on, body, after);
        self.builder.switch_to(body);
        self.turn(counter);
        self.builder.goto(header);
    }

    fn loop_tested_after(&mut self, counter: &Counter, after: Block) {
        let (before, header) = (self.head_like(after), self.head_like(after));
        let enters = self.goes_on(counter);
        self.builder.branch(enters, before, after);
        self.begin(before);
        self.builder.goto(header);
        self.begin(header);
        self.turn(counter);
        let goes_on = self.goes_on(counter);
        self.builder.branch(goes_on, header, after);
    }

    fn goes_on(&mut self, counter: &Counter) -> Node {
        let operands = [counter.count, counter.limit].map(|local| self.builder.get(local));
        self.builder.op(counter.test, &operands)
    }

    /// What is done with the counter in each turn; the statements of a region; and a step.
    fn turn(&mut self, counter: &Counter) {
        let count = self.builder.get(counter.count);
        self.pool.push(count);
        if self.choices.one_in(2) {
            let length = self.builder.get(counter.limit);
            let checked = self.builder.checked(Opcode::BoundsCheck, counter.ty, &[count, length], 0);
            self.pool.push(checked);
            self.show(checked);
        }
        self.region();
        let (count, step) =
            (self.builder.get(counter.count), self.builder.constant(counter.ty, counter.step));
        let next = self.builder.op(Opcode::Add, &[count, step]);
        self.builder.set(counter.count, next);
    }
}
