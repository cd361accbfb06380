//! Mutations: from valid input to input that is nearly so.

use crate::choices::Choices;

/// How many changes one mutation makes at most.
const MAX_CHANGES: usize = 8;
/// How long a run of bytes is moved, repeated or dropped at most.
const MAX_RUN: usize = 64;

/// `input` with a few changes: bytes flipped, replaced, inserted, dropped, repeated, moved; sometimes cut short.
pub fn mutate(input: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 + choices.below(MAX_CHANGES) {
        if bytes.is_empty() {
            bytes.push(choices.byte());
        }
        let at = choices.below(bytes.len());
        let run = (1 + choices.below(MAX_RUN)).min(bytes.len() - at);
        match choices.below(9) {
            0 => bytes[at] ^= 1 << choices.below(8),
            1 | 2 => bytes[at] = choices.byte(),
            3 => bytes[at] = choices.bits() as u8,
            4 => bytes.insert(at, choices.byte()),
            5 => drop(bytes.drain(at..at + run)),
            6 => {
                let repeated = bytes[at..at + run].to_vec();
                bytes.splice(at..at, repeated);
            }
            7 => {
                let moved: Vec<u8> = bytes.drain(at..at + run).collect();
                let to = choices.below(bytes.len() + 1);
                bytes.splice(to..to, moved);
            }
            _ if choices.one_in(4) => bytes.truncate(at),
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }
    bytes
}

/// `text` with whole words exchanged for others of it, dropped or doubled: what is left reads almost right.
pub fn mutate_words(text: &str, choices: &mut Choices<'_>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut mutated: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    for _ in 0..1 + choices.below(4) {
        if mutated.is_empty() || words.is_empty() {
            break;
        }
        let at = choices.below(mutated.len());
        match choices.below(6) {
            0 => drop(mutated.remove(at)),
            1 => mutated.insert(at, mutated[at].clone()),
            2 => {
                let other = choices.below(mutated.len());
                mutated.swap(at, other);
            }
            _ => {
                let line: Vec<&str> = mutated[at].split(' ').collect();
                let which = choices.below(line.len());
                let word = words[choices.below(words.len())];
                let replaced: Vec<&str> = line
                    .iter()
                    .enumerate()
                    .map(|(index, old)| if index == which { word } else { old })
                    .collect();
                mutated[at] = replaced.join(" ");
            }
        }
    }
    mutated.join("\n")
}
