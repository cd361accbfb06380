//! The start of a function is the best there is.

use super::*;

fn edge(start: u32, end: u32, frequency: u32) -> HotEdge {
    HotEdge { start, end, frequency }
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// What the choice means, byte by byte.
fn straddles(start: usize, edge: &HotEdge) -> bool {
    edge.start < edge.end && (start + edge.start as usize) / 64 != (start + edge.end as usize - 1) / 64
}

fn brute_force(align: usize, bytes: usize, edges: &[HotEdge]) -> usize {
    let cost = |start: usize| -> u64 {
        edges.iter().filter(|edge| straddles(start, edge)).map(|edge| u64::from(edge.frequency)).sum()
    };
    let granules = |start: usize| (start + bytes).div_ceil(64);
    let starts = (0..64).filter(|start| start % align.max(4) == 0);
    starts.min_by_key(|&start| (cost(start), granules(start), start)).expect("0 is one")
}

#[test]
fn without_back_edges_a_function_starts_its_granule() {
    for bytes in [1, 63, 64, 65, 400] {
        assert_eq!(start_offset(1, bytes, &[]), 0);
    }
}

#[test]
fn a_straddling_back_edge_moves_the_function_just_far_enough() {
    // Bytes 59..65: the branch lies on the next line. Four bytes on, one byte of the compare still lies on the first.
    assert_eq!(start_offset(1, 100, &[edge(59, 65, HotEdge::ONCE)]), 8);
    assert_eq!(start_offset(1, 100, &[edge(60, 66, HotEdge::ONCE)]), 4);
    // Near misses: it ends with the line, it starts with the line, it never runs.
    assert_eq!(start_offset(1, 100, &[edge(58, 64, HotEdge::ONCE)]), 0);
    assert_eq!(start_offset(1, 100, &[edge(64, 70, HotEdge::ONCE)]), 0);
    assert_eq!(start_offset(1, 100, &[edge(60, 66, 0)]), 0);
}

#[test]
fn of_two_back_edges_in_conflict_the_hotter_one_wins() {
    // Edges so long that one of them straddles wherever the function starts.
    let (low, high) = (edge(0, 36, 1), edge(32, 68, 2));
    assert!((0..64).all(|start| straddles(start, &low) || straddles(start, &high)));
    let chosen = start_offset(1, 200, &[low, high]);
    assert!(!straddles(chosen, &high) && straddles(chosen, &low));
    let chosen = start_offset(1, 200, &[edge(0, 36, 3), high]);
    assert!(straddles(chosen, &high) && !straddles(chosen, &low));
}

#[test]
fn many_lukewarm_back_edges_outweigh_a_hot_one() {
    let hot = edge(32, 68, 10);
    let mut edges = vec![hot];
    edges.extend([edge(0, 36, 4); 2]);
    assert!(!straddles(start_offset(1, 200, &edges), &hot));
    edges.push(edge(0, 36, 4));
    assert!(straddles(start_offset(1, 200, &edges), &hot));
}

#[test]
fn a_move_that_saves_no_straddling_takes_no_further_granule() {
    // Starting at 4, 8, .. helps the edge as well, but 60 bytes fit into one granule at 4 only.
    assert_eq!(start_offset(1, 60, &[edge(40, 44, 1)]), 0);
    // The first start that helps would take a second granule; helping counts more.
    assert_eq!(start_offset(1, 128, &[edge(60, 66, 1)]), 4);
    // Of the starts 0..=24 and 32..=60 the later ones take one more granule.
    assert_eq!(start_offset(32, 96, &[edge(10, 20, 1)]), 0);
    assert_eq!(start_offset(32, 97, &[edge(10, 20, 1)]), 0);
}

#[test]
fn the_alignment_is_kept() {
    let edges = [edge(60, 66, 1)];
    for (align, start) in [(1, 4), (2, 4), (4, 4), (8, 8), (16, 16), (32, 32), (64, 0), (128, 0), (4096, 0)] {
        assert_eq!(start_offset(align, 100, &edges), start, "aligned to {align}");
    }
}

#[test]
fn edges_that_make_no_sense_do_not_count() {
    let sense = edge(60, 66, 1);
    let none = [edge(9, 9, 9), edge(9, 3, 9), edge(0, 65, 9), edge(u32::MAX, 0, 9), edge(0, u32::MAX, 9)];
    assert_eq!(start_offset(1, 100, &none), 0);
    let mut both = none.to_vec();
    both.push(sense);
    assert_eq!(start_offset(1, 100, &both), 4);
    // A line's length fits one start exactly; a range at the end of the numbers is an edge like others.
    assert_eq!(start_offset(1, 100, &[edge(4, 68, 1)]), 60);
    assert_eq!(start_offset(1, 100, &[edge(u32::MAX - 1, u32::MAX, u32::MAX)]), 0);
    assert_eq!(start_offset(1, usize::MAX, &[sense]), 4);
}

#[test]
fn each_single_edge_agrees_with_the_definition() {
    for start in 0..130 {
        for end in start..start + 70 {
            let edges = [edge(start, end, 7)];
            for align in [1, 8, 16, 32] {
                let bytes = end as usize + 16;
                assert_eq!(
                    start_offset(align, bytes, &edges),
                    brute_force(align, bytes, &edges),
                    "{start}..{end}, aligned to {align}"
                );
            }
        }
    }
}

#[test]
fn random_edges_agree_with_the_definition() {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    println!("seed {state:#x}");
    for _ in 0..20_000 {
        let bytes = 1 + xorshift(&mut state) as usize % 600;
        let edges: Vec<HotEdge> = (0..xorshift(&mut state) % 12)
            .map(|_| {
                let start = (xorshift(&mut state) % bytes as u64) as u32;
                let len = (xorshift(&mut state) % 20) as u32;
                edge(start, start + len, (xorshift(&mut state) % 5) as u32 * HotEdge::ONCE)
            })
            .collect();
        let align = 1 << (xorshift(&mut state) % 7);
        assert_eq!(
            start_offset(align, bytes, &edges),
            brute_force(align, bytes, &edges),
            "{bytes} bytes aligned to {align}: {edges:?}"
        );
    }
}
