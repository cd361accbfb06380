//! Monitor elimination: a monitor is not entered that is held already, nor left only to be entered again.
//!
//! ```text
//!   monitor_enter %a           monitor_enter %a            monitor_exit %a
//!     monitor_enter %a    ⇒                          and   %1 = load @x [%a]     ⇒     %1 = load @x [%a]
//!     monitor_exit %a                                      monitor_enter %a
//!   monitor_exit %a            monitor_exit %a
//! ```
//!
//! Which operands are one object, value numbers say. How often the method has entered its monitor is counted along all paths, those to
//! handlers included; where paths meet they must agree.
//!
//! # Why
//!
//! Methods that lock their receiver call each other, and then callees come in. What is within a monitor stays there: a longer stretch is
//! as good for others as a short one, but for how long they wait; so only what takes no time stays between two that become one.
//!
//! # Guarantees
//!
//! * Of what is entered on some paths only, or left without having been entered, nothing is touched: it may be any other object.
//! * Calls are taken to leave monitors as they find them, as the methods do of which anything is eliminated here.
//! * A frame state lists each monitor as often as it is held. So what would be held less often than a frame state says stays; and so
//!   does what would still be held where the method is left.
//!
//! # Cost
//!
//! Linear in roots and edges, times the objects whose monitors are entered: at most 64; besides value numbers.

use dagwood_il::cfg::EdgeKind;
use dagwood_il::entity::EntityVec;
use dagwood_il::{Block, Cfg, Edits, KindSet, Method, Module, Node, Opcode, Properties, effects, raises};

use crate::analysis::value_numbers::{Number, ValueNumbers};
use crate::cx::PassCx;
use crate::demand::{Demand, Gain};
use crate::pass::{Changed, Pass};
use crate::passes::gvn;
use crate::region::Region;

/// The pass.
pub const PASS: Pass = Pass {
    name: "monitor_elimination",
    summary: "do not enter monitors that are held, nor leave those that are entered again at once",
    run,
};

/// How many objects are told apart.
const MAX_OBJECTS: usize = 64;
/// About how many cycles a monitor takes to be entered and left.
const MONITOR_CYCLES: u32 = 20;

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let numbers = cx.get::<Option<ValueNumbers>>(method);
    let Some(numbers) = &*numbers else { return Changed::No };
    let cfg = cx.cfg(method);
    let Some(monitors) = Monitors::find(method, cx, &cfg, numbers) else { return Changed::No };
    let work = (method.node_count() + cfg.block_count() * monitors.objects.len()) as u64;
    if !cx.spend(work) {
        return Changed::No;
    }
    let counts = match Counts::compute(cx.module(), method, &cfg, &monitors) {
        Ok(counts) => counts,
        Err((block, node)) => {
            cx.missed((block, node), || "it is not known how often the monitor is held here".into());
            return Changed::No;
        }
    };
    let mut edits = Edits::new();
    let mut blocks = remove_nested(cx, &monitors, &counts, &mut edits);
    for (block, exit, enter) in between(cx.module(), method, &cfg, &monitors) {
        let is_gone = counts.is_nested(&monitors, exit) || counts.is_nested(&monitors, enter);
        if !is_gone && cx.allows((block, exit), || format!("the monitor is entered again at {enter}")) {
            edits.remove(exit);
            edits.remove(enter);
            blocks.push(block);
        }
    }
    if !blocks.is_empty() {
        let hottest = blocks.iter().filter_map(|block| method.block(*block).frequency).max();
        let (region, gain) = (Region::around(method, blocks), Gain::cycles(MONITOR_CYCLES, hottest));
        cx.demand(Demand::new(gvn::PASS, region, "memory is not ordered by a monitor any more", gain));
    }
    cx.apply(method, edits)
}

/// Removes what enters a monitor that is held, and what leaves it again; all of it for one object at once.
fn remove_nested(cx: &mut PassCx<'_>, monitors: &Monitors, counts: &Counts, edits: &mut Edits) -> Vec<Block> {
    let mut blocks = Vec::new();
    for object in 0..monitors.objects.len() {
        let of_object = |operation: &&Operation| operation.object == object;
        let mut nested =
            monitors.operations.iter().filter(of_object).filter(|own| counts.is_inner(own)).peekable();
        let Some(first) = nested.peek() else { continue };
        if let Some((block, node)) = counts.shown[object] {
            cx.missed((first.block, first.node), || {
                format!("the monitor is held already, but {node} in {block} shows that it is held twice")
            });
            continue;
        }
        if cx.allows((first.block, first.node), || "the monitor is held already".into()) {
            for operation in nested {
                edits.remove(operation.node);
                blocks.push(operation.block);
            }
        }
    }
    blocks
}

/// A root that enters or leaves a monitor.
struct Operation {
    block: Block,
    node: Node,
    /// Whose.
    object: usize,
    enters: bool,
}

/// The roots that enter and leave monitors.
struct Monitors {
    objects: Vec<Number>,
    operations: Vec<Operation>,
    /// By node: the operation.
    of: EntityVec<Node, Option<usize>>,
}

impl Monitors {
    /// None if there is nothing to be done, or too much.
    fn find(method: &Method<'_>, cx: &mut PassCx<'_>, cfg: &Cfg, numbers: &ValueNumbers) -> Option<Monitors> {
        let mut monitors = Monitors {
            objects: Vec::new(),
            operations: Vec::new(),
            of: EntityVec::filled(None, method.node_count()),
        };
        for block in cfg.order() {
            for root in method.roots(*block) {
                let enters = match method.opcode(root.node) {
                    Opcode::MonitorEnter => true,
                    Opcode::MonitorExit => false,
                    _ => continue,
                };
                let number = numbers.raw(numbers.number(method.operands(root.node)[0])?);
                let known = monitors.objects.iter().position(|object| *object == number);
                if known.is_none() && monitors.objects.len() == MAX_OBJECTS {
                    cx.missed((*block, root.node), || {
                        format!("of methods that enter monitors of more than {MAX_OBJECTS} objects, all stay")
                    });
                    return None;
                }
                let object = known.unwrap_or_else(|| {
                    monitors.objects.push(number);
                    monitors.objects.len() - 1
                });
                monitors.of[root.node] = Some(monitors.operations.len());
                monitors.operations.push(Operation { block: *block, node: root.node, object, enters });
            }
        }
        let enters = monitors.operations.iter().filter(|operation| operation.enters).count();
        (enters > monitors.objects.len()).then_some(monitors)
    }

    fn of(&self, node: Node) -> Option<&Operation> {
        self.of[node].map(|operation| &self.operations[operation])
    }
}

/// How often monitors have been entered, by object.
type Held = Vec<u8>;

/// How often monitors are held at their operations.
struct Counts {
    /// By node that enters or leaves: how often before.
    before: EntityVec<Node, u8>,
    /// By object: a root that shows that its monitor is held more than once, by a frame state or by leaving the method.
    shown: Vec<Option<(Block, Node)>>,
}

impl Counts {
    /// Counts along all paths; or where that is not possible.
    fn compute(
        module: &Module,
        method: &Method<'_>,
        cfg: &Cfg,
        monitors: &Monitors,
    ) -> Result<Counts, (Block, Node)> {
        let mut counts = Counts {
            before: EntityVec::filled(0, method.node_count()),
            shown: vec![None; monitors.objects.len()],
        };
        let mut at: EntityVec<Block, Option<Held>> = EntityVec::filled(None, cfg.block_count());
        if let Some(entry) = cfg.order().first() {
            at[*entry] = Some(vec![0; monitors.objects.len()]);
        }
        // One walk gives each block the count of the first that leads to it, and holds that against all others.
        for block in cfg.order() {
            let Some(mut held) = at[*block].clone() else { continue };
            for root in method.roots(*block) {
                let node = root.node;
                // One that is held can be left, and whether it is, is seen below.
                let raised = match monitors.of(node) {
                    Some(_) => KindSet::NONE,
                    None => raises(module, method, node),
                };
                for edge in cfg.successors(*block) {
                    let is_there = match edge.kind {
                        EdgeKind::Exception(kinds) => !kinds.intersection(raised).is_empty(),
                        _ => method.opcode(node).has(Properties::TERMINATES),
                    };
                    if !is_there {
                        continue;
                    }
                    // Passed without a count: all that leads to it from before it are raises of monitors.
                    let is_late = at[edge.block].is_none() && cfg.rank(edge.block) <= cfg.rank(*block);
                    if is_late || *at[edge.block].get_or_insert_with(|| held.clone()) != held {
                        return Err((*block, node));
                    }
                }
                let operation = monitors.of(node);
                counts.look(method, (*block, node), operation, raised, &held);
                if let Some(operation) = operation {
                    counts.operate(operation, &mut held).ok_or((*block, node))?;
                }
            }
        }
        Ok(counts)
    }

    /// A monitor is entered or left; none if that cannot be counted.
    fn operate(&mut self, operation: &Operation, held: &mut Held) -> Option<()> {
        let count = &mut held[operation.object];
        self.before[operation.node] = *count;
        *count = if operation.enters { count.checked_add(1)? } else { count.checked_sub(1)? };
        Some(())
    }

    /// Notes which monitors are held twice where that can be seen: not where they are themselves entered or left.
    fn look(
        &mut self,
        method: &Method<'_>,
        (block, node): (Block, Node),
        operation: Option<&Operation>,
        raised: KindSet,
        held: &Held,
    ) {
        let handlers = method.handlers(block).iter();
        let uncaught = handlers.fold(raised, |left, handler| {
            left.without(if handler.class.is_some() {
                handler.kinds.without(KindSet::GUEST)
            } else {
                handler.kinds
            })
        });
        let leaves = method.opcode(node).has(Properties::TERMINATES) && method.successors_of(node).is_empty();
        if method.frame_of(node).is_none() && uncaught.is_empty() && !leaves {
            return;
        }
        for (object, shown) in self.shown.iter_mut().enumerate() {
            if held[object] > 1 && operation.is_none_or(|operation| operation.object != object) {
                shown.get_or_insert((block, node));
            }
        }
    }

    /// Whether a root enters a monitor that is held, or leaves it so that it still is.
    fn is_inner(&self, operation: &Operation) -> bool {
        self.before[operation.node] >= if operation.enters { 1 } else { 2 }
    }

    /// Whether it is, and nothing shows that.
    fn is_nested(&self, monitors: &Monitors, node: Node) -> bool {
        monitors.of(node).is_some_and(|own| self.is_inner(own) && self.shown[own.object].is_none())
    }
}

/// Roots that leave a monitor, and those that enter the same one again with nothing between that anybody could tell.
fn between(module: &Module, method: &Method<'_>, cfg: &Cfg, monitors: &Monitors) -> Vec<(Block, Node, Node)> {
    let mut found = Vec::new();
    for block in cfg.order() {
        let mut left: Option<&Operation> = None;
        for root in method.roots(*block) {
            match (monitors.of(root.node), left) {
                (Some(operation), Some(before)) if operation.enters && operation.object == before.object => {
                    found.push((*block, before.node, operation.node));
                    left = None;
                }
                (Some(operation), _) => left = Some(operation).filter(|operation| !operation.enters),
                (None, _) => {
                    let effects = effects(module, method, root.node);
                    let is_quiet = effects.raises.is_empty()
                        && !effects.is_observable()
                        && !effects.yields
                        && !effects.leaves
                        && method.frame_of(root.node).is_none();
                    left = left.filter(|_| is_quiet);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use dagwood_il::{Bump, text};

    use super::*;
    use crate::{Options, Remarks, Report, Request, Strategy, optimize};

    /// What is said of a method that enters the monitors of so many objects twice.
    fn report(objects: usize, budget: Option<u64>) -> Report {
        let mut source = String::from("class @Box size 32\nmethod @f () -> () {\nb0:\n");
        for object in 0..objects {
            let of = |what: &str| format!("  monitor_{what} %p{object}\n");
            let (enter, exit) = (of("enter").repeat(2), of("exit").repeat(2));
            writeln!(source, "  %p{object} = new @Box\n{enter}{exit}").expect("a string takes all");
        }
        source.push_str("  return\n}\n");
        let arena = Bump::new();
        let mut parsed = text::parse(&source, &arena).expect("valid");
        let strategy = Strategy::of_passes(&[PASS]);
        let options = Options { budget, remarks: Remarks::On, ..Options::default() };
        let request = Request::new(&parsed.module, &strategy, &options);
        optimize(&request, &mut parsed.bodies[0].method, &mut ()).expect("nothing goes wrong")
    }

    #[test]
    fn of_too_many_objects_it_is_said_that_they_are_too_many() {
        assert_eq!(report(MAX_OBJECTS, None).rewrites, MAX_OBJECTS as u64);
        let over = report(MAX_OBJECTS + 1, None);
        assert_eq!(over.rewrites, 0);
        assert!(over.remarks[0].text.contains("more than 64 objects"), "{:?}", over.remarks);
    }

    #[test]
    fn nothing_is_counted_that_there_is_no_time_for() {
        assert_eq!(report(MAX_OBJECTS, Some(100)).rewrites, 0);
    }
}
