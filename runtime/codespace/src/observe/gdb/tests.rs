//! What a debugger would find in the list, without a debugger: `tests/seen` has one.

use super::*;

/// The addresses, of those in `within`, that the list's images have symbols for, with their names.
fn listed(within: Range<usize>) -> Vec<(usize, String)> {
    let _list = LIST.lock().unwrap();
    let list = &raw const __jit_debug_descriptor;
    let mut found = Vec::new();
    // SAFETY: with the lock held, the entries of the list and their images are alive and nobody changes them.
    unsafe {
        assert_eq!(((*list).version, (*list).action), (1, NO_ACTION));
        let (mut entry, mut previous) = ((*list).first, ptr::null_mut());
        while !entry.is_null() {
            assert_eq!((*entry).previous, previous);
            let image = std::slice::from_raw_parts((*entry).image, (*entry).image_bytes as usize);
            symbols(image, &mut found);
            (previous, entry) = (entry, (*entry).next);
        }
    }
    found.retain(|(address, _)| within.contains(address));
    found.sort();
    found
}

fn symbols(image: &[u8], found: &mut Vec<(usize, String)>) {
    let number = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap()) as usize;
    let headers = number(40);
    let table = (0..).map(|index| headers + 64 * index).find(|at| image[at + 4] == 2).unwrap();
    let names = number(table + 64 + 24);
    for symbol in (24..number(table + 32)).step_by(24).map(|at| number(table + 24) + at) {
        let name = &image[names + (number(symbol) & 0xffff_ffff)..];
        let end = name.iter().position(|&byte| byte == 0).unwrap();
        found.push((number(symbol + 8), String::from_utf8(name[..end].to_vec()).unwrap()));
    }
}

fn publish(symbols: &mut GdbSymbols, address: usize, len: usize, name: &str) {
    symbols.published(&Observed { address, bytes: &vec![0xc3; len], name, lines: &[] });
}

fn named(of: &[(usize, &str)]) -> Vec<(usize, String)> {
    of.iter().map(|&(address, name)| (address, name.to_owned())).collect()
}

#[test]
fn a_batch_is_listed_from_its_flush_until_its_last_function_is_freed() {
    let mut symbols = GdbSymbols::default();
    let all = 0x1000_0000..0x1001_0000;
    publish(&mut symbols, 0x1000_1000, 8, "one");
    publish(&mut symbols, 0x1000_0000, 8, "two");
    assert_eq!(listed(all.clone()), []);
    symbols.flush().unwrap();
    let both = named(&[(0x1000_0000, "two"), (0x1000_1000, "one")]);
    assert_eq!(listed(all.clone()), both);
    symbols.freed(0x1000_1000);
    symbols.freed(0x1000_1000);
    symbols.freed(0x1000_0008);
    assert_eq!(listed(all.clone()), both, "a single free costs nothing");
    symbols.freed(0x1000_0000);
    assert_eq!(listed(all), []);
}

#[test]
fn what_is_freed_before_it_is_flushed_is_never_listed() {
    let mut symbols = GdbSymbols::default();
    publish(&mut symbols, 0x2000_0000, 8, "short-lived");
    publish(&mut symbols, 0x2000_0100, 8, "kept");
    symbols.freed(0x2000_0000);
    symbols.flush().unwrap();
    assert_eq!(listed(0x2000_0000..0x2001_0000), named(&[(0x2000_0100, "kept")]));
}

#[test]
fn a_freed_name_goes_when_other_code_is_shown_in_its_place() {
    let mut symbols = GdbSymbols::default();
    let all = 0x3000_0000..0x3001_0000;
    publish(&mut symbols, 0x3000_0000, 0x100, "first");
    publish(&mut symbols, 0x3000_0100, 0x100, "old");
    publish(&mut symbols, 0x3000_0200, 0x100, "last");
    symbols.flush().unwrap();
    symbols.freed(0x3000_0100);
    publish(&mut symbols, 0x3000_1000, 8, "elsewhere");
    symbols.flush().unwrap();
    assert!(listed(all.clone()).contains(&(0x3000_0100, "old".to_owned())), "nobody is in its place");
    publish(&mut symbols, 0x3000_0180, 0x40, "new");
    symbols.flush().unwrap();
    let now =
        [(0x3000_0000, "first"), (0x3000_0180, "new"), (0x3000_0200, "last"), (0x3000_1000, "elsewhere")];
    assert_eq!(listed(all.clone()), named(&now));
    // What was renumbered is still found.
    symbols.freed(0x3000_0200);
    symbols.freed(0x3000_0000);
    assert_eq!(listed(all), named(&[(0x3000_0180, "new"), (0x3000_1000, "elsewhere")]));
}

#[test]
fn full_batches_register_themselves_and_dropping_takes_all_back() {
    let mut symbols = GdbSymbols::default();
    let all = 0x4000_0000..0x5000_0000;
    for index in 0..elf::FUNCTIONS + 1 {
        publish(&mut symbols, 0x4000_0000 + index * 64, 40, "f");
    }
    assert_eq!(listed(all.clone()).len(), elf::FUNCTIONS);
    symbols.flush().unwrap();
    assert_eq!(listed(all.clone()).len(), elf::FUNCTIONS + 1);
    drop(symbols);
    assert_eq!(listed(all), []);
}

#[test]
fn random_publishing_and_freeing_lists_each_live_function_and_no_two_at_one_address() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % limit) as usize
    };
    let mut symbols = GdbSymbols::default();
    let (base, cells) = (0x6000_0000, 64);
    let mut live = vec![None; cells];
    for step in 0..4000 {
        let cell = below(cells as u64);
        match live[cell].take() {
            Some(_) => symbols.freed(base + cell * 64),
            None => {
                let name = format!("f{step}");
                publish(&mut symbols, base + cell * 64, 40, &name);
                live[cell] = Some(name);
            }
        }
        if below(8) == 0 {
            symbols.flush().unwrap();
            let listed = listed(base..base + cells * 64);
            assert!(listed.windows(2).all(|pair| pair[0].0 != pair[1].0), "step {step}: {listed:?}");
            for (cell, name) in live.iter().enumerate() {
                let Some(name) = name else { continue };
                assert!(listed.contains(&(base + cell * 64, name.clone())), "step {step}: {name}");
            }
        }
    }
}
