//! The text form of profiles, for disk: names in place of indexes, so that it outlives the process that observed.
//!
//! ```text
//!   profile = method*
//!   method  = method @name entries n site*                             ; how often it was entered
//!   site    = at position runs n (receivers n [(@class: n)*])? (values n [(bits: n)*])?
//! ```
//!
//! A line is a method or a site, which belongs to the method above it. Behind `receivers` and `values` stands how many were met;
//! in brackets, those met most, most frequent first, each with a lower bound of how often.
//!
//! ```text
//!   method @"Main.total" entries 3
//!     at 1 runs 12
//!     at 9 runs 9 receivers 9 [@Square: 6, @Rectangle: 3]
//!     at 14 runs 12 values 12 [0: 9, 1: 3]
//! ```
//!
//! *Guarantees.* `print(parse(print(x))) == print(x)`. Reading ends with a snapshot or with an error that has a position; a name
//! that the module does not have is an error.

use std::fmt::Write;

use super::ParseError;
use super::cursor::{Cursor, Names};
use super::lex::Kind;
use super::print::push_name;
use crate::method::SourcePos;
use crate::module::{ClassId, MethodId, Module};
use crate::profile::{MethodProfile, ProfileSnapshot, Site, Top};

/// Prints a profile, with the names that the module has for methods and classes.
///
/// # Panics
///
/// If it is the profile of a program that declares more.
pub fn print_profile(module: &Module, profile: &ProfileSnapshot) -> String {
    let mut out = String::new();
    for (id, method) in &profile.methods {
        out += "method ";
        push_name(&mut out, '@', &module.methods[*id].name);
        let _ = writeln!(out, " entries {}", method.entries);
        for (SourcePos(position), site) in &method.sites {
            let _ = write!(out, "  at {position} runs {}", site.count);
            push_top(&mut out, "receivers", &site.receivers, |out, class| {
                push_name(out, '@', &module.classes[class].name);
            });
            push_top(&mut out, "values", &site.values, |out, bits| {
                let _ = write!(out, "{bits}");
            });
            out.push('\n');
        }
    }
    out
}

fn push_top<T: Copy + Ord>(out: &mut String, word: &str, top: &Top<T>, push: impl Fn(&mut String, T)) {
    if top.total() == 0 {
        return;
    }
    let _ = write!(out, " {word} {} [", top.total());
    for (index, (value, count)) in top.values().into_iter().enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        push(out, value);
        let _ = write!(out, ": {count}");
    }
    out.push(']');
}

/// Reads a profile of the program that a module declares.
///
/// # Errors
///
/// The first thing that cannot be read, with its place and with what would be right.
pub fn parse_profile(source: &str, module: &Module) -> Result<ProfileSnapshot, ParseError> {
    let mut cursor = Cursor::new(source)?;
    let methods = Names::all("method", module.methods.values().map(|decl| decl.name.as_str()));
    let classes = Names::all("class", module.classes.values().map(|class| class.name.as_str()));
    let mut profile = ProfileSnapshot::default();
    let mut current: Option<MethodId> = None;
    while cursor.next_line().kind != Kind::End {
        cursor.begin_line();
        if cursor.eat_word("method")? {
            let name = cursor.expect(Kind::Global, "`@` and the name of a method")?;
            let id = methods.find(name, &cursor)?;
            cursor.expect_word("entries")?;
            let entries = cursor.number("a count", u64::MAX)?;
            let method = MethodProfile { entries, ..MethodProfile::default() };
            if profile.methods.insert(id, method).is_some() {
                return Err(cursor.error_at(name, "this method stands above already", "each method once"));
            }
            current = Some(id);
        } else if let Some(method) = current.and_then(|id| profile.methods.get_mut(&id)) {
            let start = cursor.here();
            let (position, site) = read_site(&mut cursor, &classes)?;
            if method.sites.insert(position, site).is_some() {
                return Err(cursor.error_at(start, "this place stands above already", "each place once"));
            }
        } else {
            return Err(cursor.unexpected("`method`"));
        }
        cursor.expect_line_end()?;
    }
    Ok(profile)
}

fn read_site(cursor: &mut Cursor<'_>, classes: &Names<'_>) -> Result<(SourcePos, Site), ParseError> {
    if !cursor.eat_word("at")? {
        return Err(cursor.unexpected("`method` or `at`"));
    }
    let position = SourcePos(cursor.number("a position", u32::MAX)?);
    cursor.expect_word("runs")?;
    let mut site = Site { count: cursor.number("a count", u64::MAX)?, ..Site::default() };
    if cursor.eat_word("receivers")? {
        site.receivers = read_top(cursor, |cursor| {
            let name = cursor.expect(Kind::Global, "`@` and the name of a class")?;
            classes.find::<ClassId>(name, cursor)
        })?;
    }
    if cursor.eat_word("values")? {
        site.values = read_top(cursor, |cursor| cursor.number("the bits of a value", u64::MAX))?;
    }
    Ok((position, site))
}

fn read_top<'s, T: Copy + Ord>(
    cursor: &mut Cursor<'s>,
    value: impl Fn(&mut Cursor<'s>) -> Result<T, ParseError>,
) -> Result<Top<T>, ParseError> {
    let total = cursor.number("a count", u64::MAX)?;
    cursor.expect_sign('[')?;
    let mut entries = Vec::new();
    while cursor.has_item(']', entries.len())? {
        let start = cursor.here();
        let value = value(cursor)?;
        cursor.expect_sign(':')?;
        entries.push((value, cursor.number("a count", u64::MAX)?));
        if Top::of(&entries, total).is_none() {
            let expected = format_args!(
                "at most {} different values, met no more than {total} times together",
                Top::<T>::CAPACITY
            );
            return Err(cursor.error_at(start, "these values cannot be", expected));
        }
    }
    Ok(Top::of(&entries, total).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::Entity;

    fn module() -> Module {
        let arena = bumpalo::Bump::new();
        let source = "class @A\nclass @\"B C\"\nmethod @\"M.f\" () -> ()\nmethod @g () -> ()\n";
        crate::text::parse(source, &arena).expect("the declarations are right").module
    }

    #[test]
    fn profiles_are_read_as_they_are_printed() {
        let module = module();
        let text = "method @\"M.f\" entries 3\n  at 1 runs 12\n  at 9 runs 9 receivers 9 [@A: 6, @\"B C\": 3]\n  \
                    at 14 runs 12 receivers 1 [] values 12 [18446744073709551615: 5, 0: 4]\nmethod @g entries 0\n";
        let profile = parse_profile(text, &module).expect("the profile is right");
        assert_eq!(print_profile(&module, &profile), text);
        let site = &profile.methods[&MethodId::new(0)].sites[&SourcePos(9)];
        assert_eq!(site.receivers.dominant(600), Some(ClassId::new(0)));
        assert_eq!(parse_profile("", &module), Ok(ProfileSnapshot::default()));
    }

    #[test]
    fn mistakes_have_a_place_and_say_what_would_be_right() {
        let module = module();
        let wrong = |text: &str| parse_profile(text, &module).expect_err(text).to_string();
        assert_eq!(wrong("at 1 runs 2"), "1:1: found `at`; expected `method`");
        assert!(wrong("method @h entries 1").starts_with("1:8: no method is named `@h`"));
        assert!(
            wrong("method @g entries 1\nmethod @g entries 1").starts_with("2:8: this method stands above")
        );
        assert!(wrong("method @g entries 1\nat 1 runs 1\nat 1 runs 1").starts_with("3:1: this place"));
        assert!(
            wrong("method @g entries 1\nat 1 runs 2 values 3 [1: 2, 1: 1]")
                .contains("2:29: these values cannot be")
        );
        assert!(wrong("method @g entries 1\nat 1 runs 2 values 3 [1: 4]").contains("no more than 3 times"));
        assert!(wrong("method @g entries 1\nat 1 runs 2 receivers 3 [@D: 1]").contains("no class is named"));
        assert!(wrong("method @g entries 99999999999999999999").contains("is too large"));
    }
}
