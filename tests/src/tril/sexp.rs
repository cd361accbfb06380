//! S-expressions: `(opcode key=value "string" [list] number (nested …))`.

use std::collections::BTreeMap;

/// A node of a Tril program.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sexp {
    /// What stands first.
    pub(super) name: String,
    /// `key=value` pairs; a list's value is its elements, separated by commas.
    pub(super) keys: BTreeMap<String, String>,
    /// Bare words, numbers and strings.
    pub(super) words: Vec<String>,
    /// Nested nodes.
    pub(super) children: Vec<Sexp>,
}

/// Nesting that is read; the programs at hand nest less than twenty deep.
const MAX_DEPTH: usize = 200;

/// Reads one node.
pub(super) fn parse(text: &str) -> Result<Sexp, String> {
    let mut stack: Vec<Sexp> = Vec::new();
    let mut rest = text.trim_start();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('(') {
            let (name, after) = word(after.trim_start());
            stack.push(Sexp { name, ..Sexp::default() });
            rest = after;
            if stack.len() > MAX_DEPTH {
                return Err(format!("nested more than {MAX_DEPTH} deep"));
            }
        } else if let Some(after) = rest.strip_prefix(')') {
            let done = stack.pop().ok_or("a parenthesis closes nothing")?;
            match stack.last_mut() {
                Some(parent) => parent.children.push(done),
                None => return Ok(done),
            }
            rest = after;
        } else if rest.is_empty() {
            return Err("the text ends within a node".into());
        } else {
            let (token, after) = word(rest);
            let node = stack.last_mut().ok_or("a word stands outside of nodes")?;
            match token.split_once('=') {
                Some((key, _)) if after.starts_with('[') => {
                    let (list, after) = after[1..].split_once(']').ok_or("a list does not end")?;
                    node.keys.insert(key.into(), list.replace(' ', ""));
                    rest = after;
                    continue;
                }
                Some((key, value)) => {
                    node.keys.insert(key.into(), value.into());
                }
                None => node.words.push(token),
            }
            rest = after;
        }
    }
}

/// The next word without its quotes, and what follows. A word ends before a list.
fn word(text: &str) -> (String, &str) {
    let (mut word, mut quoted) = (String::new(), false);
    for (index, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' | ')' | '[' if !quoted => return (word, &text[index..]),
            c if c.is_whitespace() && !quoted => return (word, &text[index..]),
            c => word.push(c),
        }
    }
    (word, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_keys_lists_and_strings_are_read() {
        let node =
            parse(r#"(method args=[Int32, Int64] (block name="b 1" (iconst -3)))"#).expect("well-formed");
        assert_eq!(node.keys["args"], "Int32,Int64");
        assert_eq!(node.children[0].keys["name"], "b 1");
        assert_eq!(node.children[0].children[0].words, ["-3"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "(", ")", "(a", "x", "(a k=[1)"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&"(".repeat(1000)).is_err());
    }
}
