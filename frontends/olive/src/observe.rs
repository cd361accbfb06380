//! What the interpreter observes of a program, as a profile.
//!
//! ```text
//!   every operation            how often it ran
//!   virtual, interface,
//!   instanceof, cast           the class of the object
//!   if, ifnot, switch          the value decided by: for the first two, 1 or 0
//!   newarray                   the length
//! ```
//!
//! A source position is the index of an operation. The snapshot has the operations that something was observed of and those
//! where a block begins; what runs between them runs as often.

use std::collections::BTreeMap;

use dagwood_il as il;
use il::entity::EntityVec;
use il::layout::ObjectKind;
use il::profile::{MethodProfile, ProfileSnapshot, Site, Top};
use il::{ClassId, MethodId, SourcePos};

use crate::host::{Host, Value};
use crate::interpret::Frame;
use crate::program::{Op, Program};

/// What was observed of one method.
#[derive(Clone, Debug, Default)]
struct Counts {
    entries: u64,
    /// By operation.
    runs: Vec<u64>,
    receivers: BTreeMap<usize, Top<ClassId>>,
    values: BTreeMap<usize, Top<u64>>,
}

/// What was observed of a program.
#[derive(Clone, Debug)]
pub struct Observed {
    methods: EntityVec<MethodId, Counts>,
}

impl Observed {
    /// Nothing yet.
    pub fn new(program: &Program) -> Observed {
        let mut methods = EntityVec::new();
        for method in program.methods.values() {
            methods.push(Counts { runs: vec![0; method.code.len()], ..Counts::default() });
        }
        Observed { methods }
    }

    pub(crate) fn enter(&mut self, method: MethodId) {
        self.methods[method].entries += 1;
    }

    /// Notes an operation that is about to run.
    pub(crate) fn step<H: Host>(&mut self, program: &Program, host: &mut H, frame: &Frame, op: &Op) {
        let counts = &mut self.methods[frame.method];
        counts.runs[frame.at] += 1;
        let from_top =
            |depth: usize| frame.stack.len().checked_sub(depth + 1).map(|index| frame.stack[index]);
        let object = match op {
            Op::Virtual(dispatch) | Op::Interface(dispatch) => {
                from_top(program.shape(*dispatch).params.len())
            }
            Op::InstanceOf(_) | Op::Cast(_) => from_top(0),
            _ => None,
        };
        if let Some(Value::Ref(object @ 1..)) = object
            && let ObjectKind::Object(class) = host.kind(object)
        {
            counts.receivers.entry(frame.at).or_default().add(class, 1);
        }
        let value = match (op, from_top(0)) {
            (Op::If(_) | Op::IfNot(_), Some(value)) => Some(u64::from(value.bits() != 0)),
            (Op::Switch(..) | Op::NewArray(_), Some(value)) => Some(value.bits()),
            _ => None,
        };
        if let Some(value) = value {
            counts.values.entry(frame.at).or_default().add(value, 1);
        }
    }

    /// All of it, as compilations read it.
    pub fn snapshot(&self, program: &Program) -> ProfileSnapshot {
        let methods = self.methods.iter().filter(|(_, counts)| counts.entries > 0);
        let methods = methods.map(|(id, counts)| {
            let code = &program.methods[id];
            let mut begins = vec![false; code.code.len() + 1];
            begins[0] = true;
            code.labels.iter().for_each(|label| begins[label.at as usize] = true);
            for (at, op) in code.code.iter().enumerate() {
                begins[at + 1] |= op.targets().next().is_some();
            }
            let mut sites = BTreeMap::new();
            for (at, count) in counts.runs.iter().enumerate().filter(|(_, count)| **count > 0) {
                let (receivers, values) = (counts.receivers.get(&at), counts.values.get(&at));
                if begins[at] || receivers.is_some() || values.is_some() {
                    let receivers = receivers.cloned().unwrap_or_default();
                    let site = Site { count: *count, receivers, values: values.cloned().unwrap_or_default() };
                    sites.insert(SourcePos(at as u32), site);
                }
            }
            (id, MethodProfile { entries: counts.entries, sites })
        });
        ProfileSnapshot { methods: methods.collect() }
    }
}
