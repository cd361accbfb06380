//! The manager, driven by passes made for it.

use dagwood_il::entity::Entity;
use dagwood_il::{Block, Bump, Frequency, text};

use super::*;
use crate::ledger::Outcome::{Ran, Skipped};
use crate::strategy::When;

/// Two heads; nothing raises.
const SOURCE: &str =
    "method @f ($x: i32) -> (i32) {\nb0:\n  goto b1\nb1:\n  %0 = entry.i32 $x\n  return %0\n}\n";

const fn pass(name: &'static str, run: fn(&mut Method<'_>, &mut PassCx<'_>) -> Changed) -> Pass {
    Pass { name, summary: "a test", run }
}

fn first() -> Block {
    Block::new(0)
}

/// Counts its runs in the frequency of the first block.
const COUNT: Pass = pass("count", |method, cx| {
    cx.spend(10);
    if !cx.allows(first(), || "counted".into()) {
        return Changed::No;
    }
    let count = method.block(first()).frequency.map_or(0, |frequency| frequency.0);
    method.set_frequency(first(), Some(Frequency(count + 1)));
    Changed::Yes
});

/// Finds nothing.
const LOOK: Pass = pass("look", |_, cx| {
    cx.missed(first(), || "there is nothing".into());
    Changed::No
});

/// Counts and asks for `look`, which finds nothing.
const ASK: Pass = pass("ask", |method, cx| {
    let changed = (COUNT.run)(method, cx);
    cx.demand(Demand::new(
        LOOK,
        Region::around(method, [first()]),
        "it was counted",
        Gain::cycles(100, None),
    ));
    changed
});

fn row(pass: Pass, when: When) -> Row {
    Row { pass, when, why: "a test" }
}

fn strategy(rows: Vec<Row>) -> Strategy {
    Strategy { work_per_cycle: 128, rows: rows.into(), ..Strategy::of_passes(&[]) }
}

/// The report, and how often was counted.
fn optimized(strategy: &Strategy, options: &Options) -> Result<(Report, u32), Fault> {
    let arena = Bump::new();
    let mut parsed = text::parse(SOURCE, &arena).expect("valid");
    let request = Request::new(&parsed.module, strategy, options);
    let report = optimize(&request, &mut parsed.bodies[0].method, &mut ())?;
    let count = parsed.bodies[0].method.block(first()).frequency.map_or(0, |frequency| frequency.0);
    Ok((report, count))
}

fn run(rows: Vec<Row>) -> (Report, u32) {
    optimized(&strategy(rows), &Options::default()).expect("nothing goes wrong")
}

fn outcomes(report: &Report) -> Vec<(u32, &'static str, Option<Skip>)> {
    let skip = |outcome: &Outcome| match outcome {
        Ran(_) => None,
        Skipped(skip) => Some(*skip),
    };
    report.ledger.entries.iter().map(|entry| (entry.round, entry.pass, skip(&entry.outcome))).collect()
}

#[test]
fn rows_run_in_their_order_where_their_conditions_hold() {
    let (report, count) = run(vec![
        row(COUNT, When::Always),
        row(LOOK, When::Has(Features::LOOPS.union(Features::HEADS))),
        row(COUNT, When::Has(Features::HEADS)),
        row(LOOK, When::Demanded),
    ]);
    assert_eq!(count, 2);
    assert_eq!(
        outcomes(&report),
        [
            (1, "count", None),
            (1, "look", Some(Skip::Lacks(Features::LOOPS))),
            (1, "count", None),
            (1, "look", Some(Skip::NotDemanded)),
        ]
    );
    assert_eq!((report.rewrites, report.ledger.work), (2, 20));
}

#[test]
fn a_demand_is_served_by_the_next_row_and_in_its_region() {
    let (report, _) = run(vec![row(ASK, When::Always), row(LOOK, When::Demanded)]);
    assert_eq!(outcomes(&report), [(1, "ask", None), (1, "look", None)]);
    assert_eq!(report.ledger.demands[0].fate, Fate::Served(1));
    let Ran(run) = &report.ledger.entries[1].outcome else { panic!("it ran") };
    assert_eq!((run.heads, run.has_changed), (Some(1), false));
}

#[test]
fn a_demand_for_a_row_that_has_passed_begins_another_round() {
    let (report, _) = run(vec![row(LOOK, When::Always), row(ASK, When::Always)]);
    assert_eq!(outcomes(&report), [(1, "look", None), (1, "ask", None), (2, "look", None)]);
    let text = report.ledger.to_string();
    assert!(text.contains("it was counted; ran in round 2, in vain"), "{text}");
    assert!(text.starts_with("3 runs, 0 skipped, in 2 rounds; work 10 of"), "{text}");
}

#[test]
fn what_comes_last_runs_once_after_all_rounds() {
    let last = row(COUNT, When::Last(Features::HEADS));
    let (report, _) = run(vec![last, row(LOOK, When::Always), row(ASK, When::Always)]);
    assert_eq!(
        outcomes(&report),
        [(1, "look", None), (1, "ask", None), (2, "look", None), (2, "count", None)]
    );
}

#[test]
fn a_pass_that_includes_another_serves_what_is_demanded_of_it() {
    let ask = pass("ask", |method, cx| {
        let changed = (COUNT.run)(method, cx);
        cx.demand(Demand::new(pass("gvn", LOOK.run), Region::All, "it was counted", Gain(u64::MAX)));
        changed
    });
    let whole = pass("gvn_pre", LOOK.run);
    for rows in [
        vec![row(ask, When::Always), row(whole, When::Always)],
        vec![row(ask, When::Always), row(whole, When::Always), row(pass("gvn", LOOK.run), When::Demanded)],
    ] {
        let (report, _) = run(rows);
        assert_eq!(report.ledger.demands[0].fate, Fate::Served(1));
        assert_eq!(report.ledger.runs().count(), 2);
    }
    // Where the method lacks what the one needs, the other is asked.
    let needs_loops = row(pass("gvn", LOOK.run), When::DemandedWith(Features::LOOPS));
    let (report, _) = run(vec![row(ask, When::Always), needs_loops, row(whole, When::Always)]);
    assert_eq!(report.ledger.demands[0].fate, Fate::Served(2));
}

#[test]
fn a_demand_must_cite_a_change() {
    let silent = pass("ask", |method, cx| {
        let _ = (ASK.run)(method, cx);
        method.set_frequency(first(), None);
        Changed::No
    });
    let (report, _) = run(vec![row(LOOK, When::Always), row(silent, When::Always)]);
    assert_eq!(outcomes(&report).last(), Some(&(2, "look", Some(Skip::NothingChanged))));
    assert_eq!(report.ledger.demands[0].fate, Fate::Denied(Skip::NothingChanged));
}

#[test]
fn what_will_be_refused_gets_no_budget_set_aside() {
    let other = pass("other", LOOK.run);
    let ask = pass("ask", |_, cx| {
        let demand = |pass, gain| Demand { cost: Some(60), ..Demand::new(pass, Region::All, "twice", gain) };
        cx.demand(demand(LOOK, Gain(u64::MAX)));
        cx.demand(demand(pass("other", LOOK.run), Gain::cycles(100, None)));
        Changed::No
    });
    let rows = vec![row(other, When::Demanded), row(LOOK, When::Always), row(ask, When::Always)];
    let options = Options { budget: Some(100), ..Options::default() };
    let (report, _) = optimized(&strategy(rows), &options).expect("nothing goes wrong");
    let fates: Vec<Fate> = report.ledger.demands.iter().map(|demand| demand.fate).collect();
    assert_eq!(fates, [Fate::Denied(Skip::NothingChanged), Fate::Served(3)]);
}

#[test]
fn what_does_not_pay_has_no_row_or_is_about_nothing_is_denied_and_not_lost() {
    let ask = pass("ask", |method, cx| {
        let changed = (COUNT.run)(method, cx);
        cx.demand(Demand::new(LOOK, Region::All, "little", Gain(1)));
        cx.demand(Demand::new(pass("nowhere", LOOK.run), Region::All, "unknown", Gain(1)));
        cx.demand(Demand::new(COUNT, Region::Heads(Vec::new()), "gone", Gain(u64::MAX)));
        changed
    });
    let (report, _) =
        run(vec![row(ask, When::Always), row(LOOK, When::Demanded), row(COUNT, When::Demanded)]);
    let fates: Vec<Fate> = report.ledger.demands.iter().map(|demand| demand.fate).collect();
    assert!(matches!(fates[0], Fate::Denied(Skip::DoesNotPay { .. })), "{fates:?}");
    assert_eq!(fates[1..], [Fate::Denied(Skip::NoRow), Fate::Denied(Skip::RegionGone)]);
}

#[test]
fn demands_without_end_are_ended() {
    let forever = pass("again", |method, cx| {
        let changed = (COUNT.run)(method, cx);
        let again = pass("again", LOOK.run);
        cx.demand(Demand::new(again, Region::All, "it counts on", Gain(u64::MAX)));
        changed
    });
    let (report, count) = run(vec![row(forever, When::Always)]);
    assert_eq!(count, MAX_ROUNDS);
    assert_eq!(report.ledger.demands.last().map(|demand| demand.fate), Some(Fate::Denied(Skip::Rounds)));
}

#[test]
fn the_budget_is_shared_and_ends() {
    let greedy = pass("greedy", |_, cx| {
        while cx.spend(1) {}
        Changed::No
    });
    let rows = vec![row(greedy, When::Always); 8];
    let options = Options { budget: Some(100), ..Options::default() };
    let (report, _) = optimized(&strategy(rows), &options).expect("nothing goes wrong");
    let work: Vec<u64> = report.ledger.runs().map(|(_, run)| run.work).collect();
    assert_eq!(work, [51, 26, 13, 6, 3, 2], "each gets half of what is left, and one visit more to notice");
    assert!(report.ledger.runs().all(|(_, run)| run.is_cut));
    assert_eq!(outcomes(&report).last(), Some(&(1, "greedy", Some(Skip::Budget))));
}

#[test]
fn a_limit_allows_the_first_rewrites() {
    for limit in 0..=3 {
        let options = Options { rewrite_limit: Some(limit), remarks: Remarks::On, ..Options::default() };
        let rows = vec![row(COUNT, When::Always); 3];
        let (report, count) = optimized(&strategy(rows), &options).expect("nothing goes wrong");
        assert_eq!((u64::from(count), report.rewrites), (limit, 3));
        let done = report.remarks.iter().filter(|remark| remark.kind.name() == "done").count();
        assert_eq!((done as u64, report.remarks.len()), (limit, 3));
    }
}

#[test]
fn remarks_are_made_only_where_somebody_reads_them() {
    let rows = || vec![row(COUNT, When::Always), row(LOOK, When::Always)];
    assert!(run(rows()).0.remarks.is_empty());
    let options = Options { remarks: Remarks::On, ..Options::default() };
    let (report, _) = optimized(&strategy(rows()), &options).expect("nothing goes wrong");
    let lines: Vec<String> = report.remarks.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "done      1  count                b0             counted",
            "missed       look                 b0             there is nothing"
        ]
    );
}

#[test]
fn a_pass_that_goes_wrong_is_named_with_its_rewrites() {
    let panics = pass("panics", |method, cx| {
        let _ = (COUNT.run)(method, cx);
        panic!("on purpose")
    });
    let breaks = pass("breaks", |method, _| {
        method.set_roots(first(), &[]);
        Changed::Yes
    });
    let options = Options { verify: Verify::Each, remarks: Remarks::On, ..Options::default() };
    let fault =
        |pass| optimized(&strategy(vec![row(COUNT, When::Always), row(pass, When::Always)]), &options);
    let text = fault(panics).expect_err("it panics").to_string();
    assert!(text.starts_with("pass `panics` on @f: it panicked: on purpose\n"), "{text}");
    assert!(text.contains("rewrites 2 to 2\n  done      2  panics"), "{text}");
    let text = fault(breaks).expect_err("it breaks the method").to_string();
    assert!(text.starts_with("pass `breaks` on @f: what it leaves is not well-formed"), "{text}");
}

#[test]
fn a_seed_shuffles_and_none_does_not() {
    fn order(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
        let mut numbers: Vec<u32> = (0..20).collect();
        cx.shuffle(&mut numbers);
        cx.missed(first(), || format!("{numbers:?}"));
        let _ = method;
        Changed::No
    }
    let said = |seed| {
        let options = Options { seed, remarks: Remarks::On, ..Options::default() };
        let rows = vec![row(pass("order", order), When::Always)];
        optimized(&strategy(rows), &options).expect("nothing goes wrong").0.remarks[0].text.clone()
    };
    assert!(said(0).starts_with("[0, 1, 2, 3, 4"));
    assert!(said(1) != said(0) && said(1) == said(1) && said(1) != said(2));
}

#[test]
fn analyses_are_computed_once_for_each_change() {
    let asks = pass("asks", |method, cx| {
        let before = cx.cfg(method);
        assert!(std::rc::Rc::ptr_eq(&before, &cx.cfg(method)), "it is known");
        assert_eq!(cx.loops(method).loops().count(), 0);
        Changed::No
    });
    let (report, _) = run(vec![
        row(asks, When::Always),
        row(asks, When::Always),
        row(COUNT, When::Always),
        row(asks, When::Always),
    ]);
    let work: Vec<u64> = report.ledger.runs().map(|(_, run)| run.work).collect();
    assert!(work[0] > 0 && work[1] == 0 && work[3] == work[0], "{work:?}");
}

#[test]
fn regions_follow_their_blocks_through_edits() {
    // Drops the first block, and asks for what stood in the second before and after.
    let joins = pass("joins", |method, cx| {
        let second = Block::new(1);
        cx.demand(Demand::new(LOOK, Region::around(method, [second]), "before", Gain::cycles(100, None)));
        let mut edits = dagwood_il::edit::Edits::new();
        edits.set_frequency(first(), None);
        let changed = cx.apply(method, edits);
        assert_eq!(method.block_count(), 1, "the blocks are merged");
        cx.demand(Demand::new(LOOK, Region::around(method, [first()]), "after", Gain::cycles(100, None)));
        changed
    });
    let (report, _) = run(vec![row(joins, When::Always), row(LOOK, When::Demanded)]);
    let Ran(run) = &report.ledger.entries[1].outcome else { panic!("it ran") };
    assert_eq!(run.heads, Some(1));
    assert!(report.ledger.demands.iter().all(|demand| demand.fate == Fate::Served(1)));
}
