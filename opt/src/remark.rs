//! Remarks: what a pass did, and what it did not do and why.
//!
//! ```text
//!   done   12  eliminate_checks  b4 %17 !203   the index is below the length since b2
//!   missed     inline            b4 %20 !210   @sort has 312 nodes; a call of this frequency may bring 80
//! ```
//!
//! *Places.* Blocks and nodes are those of the method as it was when the remark was made: before the changes that its pass then applied.
//! Source positions mean the same for ever.

use std::fmt::{self, Write};

use dagwood_il::{Block, Method, Node, SourcePos};

/// Where in a method something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The block, if it is known.
    pub block: Option<Block>,
    /// The node, if it is about one.
    pub node: Option<Node>,
}

impl From<Block> for Place {
    fn from(block: Block) -> Place {
        Place { block: Some(block), node: None }
    }
}

impl From<Node> for Place {
    fn from(node: Node) -> Place {
        Place { block: None, node: Some(node) }
    }
}

impl From<(Block, Node)> for Place {
    fn from((block, node): (Block, Node)) -> Place {
        Place { block: Some(block), node: Some(node) }
    }
}

/// What a remark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemarkKind {
    /// The rewrite of this number was done.
    Done(u64),
    /// The rewrite of this number was not done, because of the limit of rewrites.
    Denied(u64),
    /// Something that could have been was not done.
    Missed,
}

impl RemarkKind {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            RemarkKind::Done(_) => "done",
            RemarkKind::Denied(_) => "denied",
            RemarkKind::Missed => "missed",
        }
    }

    /// The number of the rewrite.
    pub const fn number(self) -> Option<u64> {
        match self {
            RemarkKind::Done(number) | RemarkKind::Denied(number) => Some(number),
            RemarkKind::Missed => None,
        }
    }
}

/// What a pass says of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Whether it was done.
    pub kind: RemarkKind,
    /// Which pass says so.
    pub pass: &'static str,
    /// Where.
    pub place: Place,
    /// Where in the source; none if the place is no root, or the frontend did not say.
    pub position: SourcePos,
    /// What was done, or why not.
    pub text: String,
}

/// Columns of a pass's name, so that most remarks stand in line.
const PASS_COLUMNS: usize = 20;
/// Columns of a place.
const PLACE_COLUMNS: usize = 14;

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.kind.number().map(|number| number.to_string()).unwrap_or_default();
        let place = self.place_text();
        let Remark { kind, pass, text, .. } = self;
        write!(f, "{:6} {number:>4}  {pass:PASS_COLUMNS$} {place:PLACE_COLUMNS$} {text}", kind.name())
    }
}

impl Remark {
    /// Block, node and source position, as far as they are known.
    fn place_text(&self) -> String {
        let block = self.place.block.map(|block| block.to_string());
        let node = self.place.node.map(|node| node.to_string());
        let position = (self.position != SourcePos::NONE).then(|| format!("!{}", self.position.0));
        [block, node, position].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// One object of JSON, on one line; what is not known has no member.
    pub fn json(&self, method: &str) -> String {
        let mut out = format!("{{\"kind\":\"{}\"", self.kind.name());
        if let Some(number) = self.kind.number() {
            let _ = write!(out, ",\"number\":{number}");
        }
        let mut text = |name: &str, value: &str| {
            let _ = write!(out, ",\"{name}\":");
            push_json(&mut out, value);
        };
        text("method", method);
        text("pass", self.pass);
        self.place.block.iter().for_each(|block| text("block", &block.to_string()));
        self.place.node.iter().for_each(|node| text("node", &node.to_string()));
        text("text", &self.text);
        if self.position != SourcePos::NONE {
            let _ = write!(out, ",\"position\":{}", self.position.0);
        }
        out + "}"
    }

    /// Completes the remark's place from the method that it is about, where it names a root.
    pub(crate) fn locate(remarks: &mut [Remark], method: &Method<'_>) {
        let mut wanted: Vec<(Node, usize)> =
            (0..).zip(&*remarks).filter_map(|(index, remark)| Some((remark.place.node?, index))).collect();
        if wanted.is_empty() {
            return;
        }
        wanted.sort_unstable();
        for block in method.blocks() {
            for root in method.roots(block) {
                let first = wanted.partition_point(|(node, _)| *node < root.node);
                for (_, index) in wanted[first..].iter().take_while(|(node, _)| *node == root.node) {
                    let remark = &mut remarks[*index];
                    remark.place.block = Some(block);
                    remark.position = root.position;
                }
            }
        }
    }
}

/// A string of JSON.
fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use dagwood_il::entity::Entity;

    use super::*;

    #[test]
    fn a_remark_is_a_line_of_text_or_of_json() {
        let remark = Remark {
            kind: RemarkKind::Done(3),
            pass: "twist",
            place: (Block::new(1), Node::new(2)).into(),
            position: SourcePos(7),
            text: "a \"b\"\n".into(),
        };
        assert_eq!(remark.to_string(), "done      3  twist                b1 %2 !7       a \"b\"\n");
        assert_eq!(
            remark.json("f"),
            "{\"kind\":\"done\",\"number\":3,\"method\":\"f\",\"pass\":\"twist\",\"block\":\"b1\",\"node\":\"%2\",\
             \"text\":\"a \\\"b\\\"\\u000a\",\"position\":7}"
        );
        let missed =
            Remark { kind: RemarkKind::Missed, place: Place::default(), position: SourcePos::NONE, ..remark };
        assert!(
            missed.json("f").starts_with("{\"kind\":\"missed\",\"method\":\"f\",\"pass\":\"twist\",\"text\"")
        );
    }
}
