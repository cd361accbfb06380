//! The memory of a space whose functions come and go stays what it was, however long that lasts.
//!
//! The same sizes are placed again and again in another order, so that what is live hardly changes and all that could
//! grow is what the space loses. `DAGWOOD_CODESPACE_OPERATIONS` says how many functions are replaced,
//! `DAGWOOD_FUZZ_SEED` from where.

mod chance;

use dagwood_codespace::{Code, CodeSpace, CodeWriter, Layout, Options};

use chance::{Random, number};

/// How many functions are live.
const LIVE: usize = 4000;
/// How many sizes wait to be placed, so that a size seldom goes back to where it was.
const ABSENT: usize = 64;
/// How often memory is looked at: the medians of two halves are compared, since single looks differ by some percent.
const LOOKS: usize = 200;

impl Random {
    /// Small as a rule, with a long tail.
    fn size(&mut self) -> usize {
        match self.below(100) {
            0..60 => 40 + self.below(400),
            60..92 => 100 + self.below(2400),
            92..99 => 1000 + self.below(12_000),
            _ => 10_000 + self.below(90_000),
        }
    }
}

fn place(writer: &CodeWriter, size: usize) -> Code {
    let mut buffer = writer.reserve(&Layout::new(size)).expect("there is room");
    buffer.bytes_mut().fill(0xc3);
    buffer.publish(size).expect("two views are always there")
}

/// The bytes of this process that are resident.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("the system tells");
    let pages = text.split_ascii_whitespace().nth(1).expect("the second number");
    pages.parse::<usize>().expect("a number") * 4096
}

#[test]
fn memory_does_not_drift() {
    let seed = number("DAGWOOD_FUZZ_SEED").unwrap_or(0x5eed);
    let operations = number("DAGWOOD_CODESPACE_OPERATIONS").unwrap_or(400_000) as usize;
    println!("DAGWOOD_FUZZ_SEED={seed} DAGWOOD_CODESPACE_OPERATIONS={operations}");
    let mut random = Random(seed | 1);
    let space = CodeSpace::new(&Options::default()).expect("the system allows it");
    let writer = space.writer();
    let mut live: Vec<Code> = (0..LIVE).map(|_| place(&writer, random.size())).collect();
    let mut absent: Vec<usize> = (0..ABSENT).map(|_| random.size()).collect();
    let mut looks = Vec::with_capacity(LOOKS);
    for look in 0..LOOKS {
        for _ in 0..operations / LOOKS {
            let code = live.swap_remove(random.below(LIVE));
            let size = std::mem::replace(&mut absent[random.below(ABSENT)], code.len());
            if look % 2 == 0 {
                writer.retire(code).expect("it is the space's");
                if space.is_reclaim_due() {
                    writer.reclaim(&mut |_| {}).expect("the barrier is there");
                }
            } else {
                // SAFETY: nobody runs the code, and nobody keeps what a lookup said.
                unsafe { writer.free(code) }.expect("it is the space's");
            }
            live.push(place(&writer, size));
        }
        looks.push((resident(), space.stats().resident_bytes));
    }
    // The first tenth brings the holes about that any order of freeing has.
    let (first, second) = looks[LOOKS / 10..].split_at(LOOKS * 9 / 20);
    let middle = |looks: &[(usize, usize)], of: fn(&(usize, usize)) -> usize| {
        let mut values: Vec<usize> = looks.iter().map(of).collect();
        values.sort_unstable();
        values[values.len() / 2] as f64
    };
    for (whose, of) in
        [("process", (|look| look.0) as fn(&(usize, usize)) -> usize), ("space", |look| look.1)]
    {
        let (early, late) = (middle(first, of), middle(second, of));
        println!("resident in the median, {whose}: {early} in the first half, {late} in the second");
        assert!(late <= early * 1.01, "the {whose} grew: {early} to {late}");
    }

    live.drain(..).for_each(|code| writer.retire(code).expect("it is the space's"));
    for _ in 0..2 {
        writer.reclaim(&mut |_| {}).expect("the barrier is there");
    }
    drop(writer);
    let stats = space.stats();
    assert_eq!((stats.live, stats.live_bytes, stats.waiting, stats.used_bytes), (0, 0, 0, 0));
}
