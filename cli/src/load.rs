//! Files: read within a limit, and told apart by what is in them.
//!
//! ```text
//!   \0asm …             WebAssembly          ─┐
//!   .wat, or ( …        its text ── wat ──────┴─► Source::Wasm
//!   .dag, or method …   the IL's text ─────────┬► Source::Il
//!   .olive              Olive's text ── lowered ─┘
//! ```
//!
//! *Guarantees.* No more than the limit is read, also from what has no size (a pipe, a device). A file that is missing, a
//! directory, unreadable, empty, too large or of another kind is refused with a sentence that says which.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use dagwood_il::text;
use dagwood_wasm::MAX_MODULE_BYTES;

use crate::olive;
use crate::report::{At, Failure, diagnostic};

/// The bytes of a file of text: what the reader of the IL takes, and WebAssembly's text too.
const MAX_TEXT_BYTES: usize = text::MAX_SOURCE_BYTES;
/// How every module begins.
const MAGIC: &[u8] = b"\0asm";
/// The words by which declarations of the IL begin.
const IL_WORDS: [&str; 6] = ["signature", "class", "interface", "symbol", "native", "method"];

/// A file's contents.
#[derive(Debug)]
pub(crate) enum Source {
    /// A WebAssembly module in binary form. Byte offsets are in this form, which for text is not the file's.
    Wasm(Vec<u8>),
    /// Text of the IL.
    Il(String),
}

/// A file.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Its name, for messages.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) source: Source,
}

/// Reads a file.
pub(crate) fn load(path: &OsStr) -> Result<Loaded, Failure> {
    let name = path.to_string_lossy().into_owned();
    let bytes = read(Path::new(path)).map_err(|what| Failure::of(&name, what))?;
    let source = match Kind::of(Path::new(path), &bytes).map_err(|what| Failure::of(&name, what))? {
        Kind::Wasm => Source::Wasm(bytes),
        Kind::Wat => Source::Wasm(assemble(&name, bytes)?),
        Kind::Il => Source::Il(decode(&name, bytes)?),
        Kind::Olive => Source::Il(olive::il_text(&name, &decode(&name, bytes)?)?),
    };
    Ok(Loaded { name, source })
}

/// Reads a file as it is if it is a program in Olive: its name and its text.
pub(crate) fn load_olive(path: &OsStr) -> Result<Option<(String, String)>, Failure> {
    let name = path.to_string_lossy().into_owned();
    if Path::new(path).extension() != Some(OsStr::new("olive")) {
        return Ok(None);
    }
    let bytes = read(Path::new(path)).map_err(|what| Failure::of(&name, what))?;
    let text = decode(&name, bytes)?;
    Ok(Some((name, text)))
}

/// The contents, or why there are none.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "this file may not be read".to_owned(),
        ErrorKind::IsADirectory => "this is a directory, not a file".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let file = File::open(path).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    let limit = MAX_MODULE_BYTES as u64;
    let too_large = |has: String| format!("{has} bytes are too many; a file may have {limit}");
    if size > limit {
        return Err(too_large(size.to_string()));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve(size as usize).map_err(|_| format!("there is no memory for its {size} bytes"))?;
    // One more than allowed tells whether there is more.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(cannot)?;
    match bytes.len() as u64 {
        0 => Err("this file is empty".into()),
        len if len > limit => Err(too_large(format!("more than {limit}"))),
        _ => Ok(bytes),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Wasm,
    Wat,
    Il,
    Olive,
}

impl Kind {
    /// What a file is: by its first bytes, then by its name, then by its first word.
    fn of(path: &Path, bytes: &[u8]) -> Result<Kind, String> {
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        match extension {
            _ if bytes.starts_with(MAGIC) => Ok(Kind::Wasm),
            "wasm" => Err(format!("invalid module: it begins with {}, not {} (at byte 0x0)", hex(bytes), hex(MAGIC))),
            "wat" => Ok(Kind::Wat),
            "dag" => Ok(Kind::Il),
            "olive" => Ok(Kind::Olive),
            _ => Kind::of_text(bytes).ok_or_else(|| {
                let start = hex(bytes);
                format!("this is neither WebAssembly (.wasm, .wat), nor Dagwood's IL (.dag), nor Olive (.olive): it begins with {start}")
            }),
        }
    }

    /// What text is, past comments, of which both forms have those that begin with `;`.
    fn of_text(bytes: &[u8]) -> Option<Kind> {
        const LOOK: usize = 1 << 16;
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LOOK)]);
        let line =
            text.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with(';'))?;
        if line.starts_with('(') {
            return Some(Kind::Wat);
        }
        let word = line.split(|c: char| !c.is_ascii_alphabetic()).next()?;
        IL_WORDS.contains(&word).then_some(Kind::Il)
    }
}

/// The first bytes of a file, to be shown.
fn hex(bytes: &[u8]) -> String {
    let shown: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("the bytes {}", shown.join(" "))
}

/// The binary form of a module's text.
fn assemble(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let text = decode(name, bytes)?;
    wat::Parser::new().parse_str(Some(Path::new(name)), &text).map_err(|error| {
        // The crate's own message has the place and the line.
        Failure::Failed(error.to_string())
    })
}

/// The characters of a file of text.
fn decode(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    if bytes.len() > MAX_TEXT_BYTES {
        let len = bytes.len();
        return Err(Failure::of(name, format!("{len} bytes are too many; text may have {MAX_TEXT_BYTES}")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let text = String::from_utf8_lossy(bytes);
        let before = &text[..valid];
        let line = before.matches('\n').count() as u32 + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u32 + 1;
        let message = format!("the byte 0x{:02x} is not UTF-8, which text must be", bytes[valid]);
        Failure::Failed(diagnostic(name, &text, At { line, column }, "syntax", message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_bytes_then_names_then_words() {
        let kind = |name: &str, text: &str| Kind::of(Path::new(name), text.as_bytes()).ok();
        assert_eq!(kind("x.dag", "\0asm\x01\0\0\0"), Some(Kind::Wasm));
        assert_eq!(kind("x.wasm", "(module)"), None);
        assert_eq!(kind("x.dag", "(module)"), Some(Kind::Il));
        assert_eq!(kind("x.olive", "(module)"), Some(Kind::Olive));
        assert_eq!(kind("x", ";; a comment\n\n  (module)"), Some(Kind::Wat));
        assert_eq!(kind("x", "; a comment\nmethod @f () -> () {"), Some(Kind::Il));
        assert_eq!(kind("x", "methods of mine"), None);
        assert_eq!(kind("x", "\x7fELF"), None);
        assert_eq!(kind("x", ""), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_placed() {
        let error = decode("x.dag", b"one\ntw\xff\n".to_vec()).expect_err("not UTF-8");
        assert!(error.to_string().contains("x.dag:2:3: syntax: the byte 0xff"), "{error}");
    }
}
