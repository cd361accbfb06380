//! Images, read back: their sections and symbols by hand, their lines by a reader of DWARF.

use gimli::{EndianSlice, LittleEndian};

use super::*;
use crate::observe::{LineEntry, Observed};

struct Parsed<'a> {
    name: &'a str,
    kind: u32,
    address: u64,
    len: u64,
    bytes: &'a [u8],
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut number = [0; 8];
    number[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_le_bytes(number)
}

fn text(bytes: &[u8], at: usize) -> &str {
    let end = bytes[at..].iter().position(|&byte| byte == 0).unwrap();
    std::str::from_utf8(&bytes[at..at + end]).unwrap()
}

fn parse(image: &[u8]) -> Vec<Parsed<'_>> {
    assert_eq!(&image[..7], b"\x7fELF\x02\x01\x01");
    let (headers, count, names) = (number(image, 40, 8), number(image, 60, 2), number(image, 62, 2));
    let header = |index: u64| &image[(headers + 64 * index) as usize..][..64];
    let bytes = |header: &[u8]| {
        let (at, len) = (number(header, 24, 8) as usize, number(header, 32, 8) as usize);
        if number(header, 4, 4) as u32 == NO_BITS { &[] } else { &image[at..at + len] }
    };
    (0..count)
        .map(|index| Parsed {
            name: text(bytes(header(names)), number(header(index), 0, 4) as usize),
            kind: number(header(index), 4, 4) as u32,
            address: number(header(index), 16, 8),
            len: number(header(index), 32, 8),
            bytes: bytes(header(index)),
        })
        .collect()
}

fn section<'a>(sections: &'a [Parsed<'a>], name: &str) -> &'a Parsed<'a> {
    sections.iter().find(|section| section.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn batch(functions: &[(usize, usize, &str, &[LineEntry<'_>])]) -> Batch {
    let mut batch = Batch::default();
    for &(address, len, name, lines) in functions {
        batch.push(&Observed { address, bytes: &vec![0x90; len], name, lines }).unwrap();
    }
    batch.settle();
    batch
}

#[test]
fn each_function_has_a_symbol_in_the_section_that_holds_it() {
    let functions = [
        (0x7f00_0000_0040, 0x30, "second", &[][..]),
        (0x7f00_0000_0000, 0x30, "first", &[]),
        (0x7f00_0020_0000, 0x7000, "far", &[]),
        (0x7f00_0000_0100, 1, "a granule later", &[]),
    ];
    let image = image(&batch(&functions)).unwrap();
    let sections = parse(&image);
    let texts: Vec<_> = sections.iter().filter(|section| section.name == ".text").collect();
    let stretches: Vec<_> = texts.iter().map(|text| (text.kind, text.address, text.len)).collect();
    assert_eq!(
        stretches,
        [
            (NO_BITS, 0x7f00_0000_0000, 0x70),
            (NO_BITS, 0x7f00_0000_0100, 1),
            (NO_BITS, 0x7f00_0020_0000, 0x7000)
        ]
    );
    let (table, names) = (section(&sections, ".symtab"), section(&sections, ".strtab"));
    let symbols: Vec<_> = table.bytes.chunks(SYMBOL_BYTES).skip(1).collect();
    assert_eq!(symbols.len(), functions.len());
    for (address, len, name, _) in functions {
        let symbol = symbols.iter().find(|symbol| number(symbol, 8, 8) == address as u64).unwrap();
        assert_eq!(text(names.bytes, number(symbol, 0, 4) as usize), name);
        assert_eq!(number(symbol, 16, 8), len as u64);
        let within = &sections[number(symbol, 6, 2) as usize];
        assert!(within.address <= address as u64 && (address + len) as u64 <= within.address + within.len);
    }
    assert!(sections.iter().all(|section| !section.name.starts_with(".debug")), "there are no lines");
}

#[test]
fn the_frame_records_say_where_they_are_and_cover_each_section() {
    let image = image(&batch(&[(0x10000, 64, "a", &[]), (0x20000, 64, "b", &[])])).unwrap();
    let sections = parse(&image);
    let frames = section(&sections, ".eh_frame");
    assert_eq!(frames.address, frames.bytes.as_ptr().addr() as u64);
    let mut expected = Encoder::default();
    eh_frame(&mut expected, &[0x10000..0x10040, 0x20000..0x20040]).unwrap();
    assert_eq!(frames.bytes, expected.as_slice());
}

#[test]
fn stretches_end_where_another_function_could_stand() {
    let ends = |first_len: usize, second: usize| {
        batch(&[(0x1000, first_len, "a", &[]), (second, 1, "b", &[])]).runs().unwrap().len()
    };
    // With what the space keeps behind it, a function of 48 bytes fills its granule, and one of 49 takes another.
    assert_eq!(ends(48, 0x1040), 1);
    assert_eq!(ends(48, 0x107f), 1, "code may start anywhere in its granule");
    assert_eq!(ends(48, 0x1080), 2);
    assert_eq!(ends(49, 0x1080), 1);
    assert_eq!(ends(49, 0x10c0), 2);
}

#[test]
fn lines_read_back_as_they_were_given() {
    let line = |offset, file, line| LineEntry { offset, file, line };
    let given = [line(0, "a.il", 10), line(3, "a.il", 9), line(4, "b.il", 70_000), line(300, "a.il", 1)];
    let other = [line(7, "b.il", 5)];
    let image = image(&batch(&[
        (0x10000, 400, "with", &given),
        (0x20000, 400, "without", &[]),
        (0x30000, 9, "other", &other),
    ]))
    .unwrap();
    let sections = parse(&image);
    let load = |id: gimli::SectionId| {
        let found = sections.iter().find(|section| section.name == id.name());
        Ok::<_, ()>(EndianSlice::new(found.map_or(&[], |section| section.bytes), LittleEndian))
    };
    let dwarf = gimli::Dwarf::load(load).unwrap();
    let unit = dwarf.unit(dwarf.units().next().unwrap().unwrap()).unwrap();

    let mut rows = Vec::new();
    let mut program = unit.line_program.clone().unwrap().rows();
    while let Some((header, row)) = program.next_row().unwrap() {
        let file = header.file(row.file_index()).unwrap();
        let file = dwarf.attr_string(&unit, file.path_name()).unwrap().to_string().unwrap().to_owned();
        let line = (!row.end_sequence()).then(|| (file, row.line().unwrap().get()));
        rows.push((row.address(), line));
    }
    let row = |address, file: &str, line| (address, Some((file.to_owned(), line)));
    let expected = [
        row(0x10000, "a.il", 10),
        row(0x10003, "a.il", 9),
        row(0x10004, "b.il", 70_000),
        row(0x1012c, "a.il", 1),
        (0x10190, None),
        row(0x30007, "b.il", 5),
        (0x30009, None),
    ];
    assert_eq!(rows, expected);

    let mut functions = Vec::new();
    let mut entries = unit.entries();
    while let Some(entry) = entries.next_dfs().unwrap() {
        if entry.tag() == gimli::DW_TAG_subprogram {
            let name = dwarf.attr_string(&unit, entry.attr_value(gimli::DW_AT_name).unwrap()).unwrap();
            functions.push(name.to_string().unwrap().to_owned());
        }
    }
    assert_eq!(functions, ["with", "other"]);
    let mut ranges = dwarf.unit_ranges(&unit).unwrap();
    let mut covered = Vec::new();
    while let Some(range) = ranges.next().unwrap() {
        covered.push((range.begin, range.end));
    }
    assert_eq!(covered, [(0x10000, 0x10190), (0x30000, 0x30009)]);
}

#[test]
fn lines_out_of_order_or_outside_of_the_code_are_left_out() {
    let line = |offset| LineEntry { offset, file: "a.il", line: 1 };
    let given = [line(1), line(5), line(5), line(2), line(9), line(10), line(u32::MAX)];
    let batch = batch(&[(0x10000, 10, "f", &given)]);
    let seen: Vec<u32> = batch.lines(&batch.functions()[0]).iter().map(|line| line.offset).collect();
    assert_eq!(seen, [1, 5, 9]);
}

#[test]
fn as_many_functions_as_an_image_may_have_fit_when_each_stands_alone() {
    let mut all = Batch::default();
    for index in 0..FUNCTIONS {
        let address = 0x10_0000 + index * 0x200;
        all.push(&Observed { address, bytes: &[0x90; 32], name: "f", lines: &[] }).unwrap();
    }
    all.settle();
    let image = image(&all).unwrap();
    let sections = parse(&image);
    assert_eq!(sections.iter().filter(|section| section.name == ".text").count(), FUNCTIONS);
    assert_eq!(section(&sections, ".shstrtab").bytes.iter().filter(|&&byte| byte == 0).count(), 6);
}
