//! Which locals may still be read: what a frame state need not say is `dead`.
//!
//! *Cost.* A word for each operation; as many walks along the code as loops are nested, and one more.

use crate::program::{LabelId, Method, Op};

/// The locals that may be read before they are written again, by operation, one bit each.
pub(crate) struct Liveness {
    before: Vec<u64>,
    after: Vec<u64>,
}

impl Liveness {
    pub(crate) fn compute(method: &Method) -> Liveness {
        let count = method.code.len();
        let mut live = Liveness { before: vec![0; count], after: vec![0; count] };
        let mut has_changed = true;
        while std::mem::take(&mut has_changed) {
            for (at, op) in method.code.iter().enumerate().rev() {
                let before = |live: &Liveness, label: LabelId| live.before[method.label(label).at as usize];
                let mut after = if op.is_last() { 0 } else { live.before[at + 1] };
                op.targets().for_each(|label| after |= before(&live, label));
                let mut caught = 0;
                if op.may_raise() {
                    method.handlers_at(at).for_each(|handler| caught |= before(&live, handler.target));
                }
                let own = match op {
                    Op::Load(local) => after | 1 << local,
                    Op::Store(local) => after & !(1 << local),
                    _ => after,
                };
                has_changed |= live.before[at] != own | caught;
                (live.before[at], live.after[at]) = (own | caught, after | caught);
            }
        }
        live
    }

    /// Whether a local may be read when the operation is executed, or later.
    pub(crate) fn is_live_before(&self, at: usize, local: usize) -> bool {
        self.before[at] >> local & 1 == 1
    }

    /// Whether a local may be read once the operation has been executed, or by a handler of what it raises.
    pub(crate) fn is_live_after(&self, at: usize, local: usize) -> bool {
        self.after[at] >> local & 1 == 1
    }
}
