//! What a compilation may know of the program around its method: the bodies of callees, and answers to questions.

use std::cell::RefCell;

use dagwood_il::text::{ParseError, Reader, Source};
use dagwood_il::world::{Answer, ClosedWorld, ContentKey, Question};
use dagwood_il::{Bump, Method, MethodId, Module, World};

/// Where the bodies of callees come from.
pub trait Callees {
    /// The body of a method, in `arena`; none if there is none, or it is not to be looked at.
    fn body<'a>(&self, method: MethodId, arena: &'a Bump) -> Option<Method<'a>>;

    /// How many nodes the body has at least, if that can be guessed without building it: large ones are not built in vain.
    fn least_size(&self, _method: MethodId) -> Option<u64> {
        None
    }
}

/// No callee has a body.
#[derive(Clone, Copy, Debug)]
pub struct NoCallees;

impl Callees for NoCallees {
    fn body<'a>(&self, _: MethodId, _: &'a Bump) -> Option<Method<'a>> {
        None
    }
}

/// The bodies of a source of text, read again for whoever asks.
pub struct TextCallees<'s> {
    reader: RefCell<Reader<'s>>,
}

impl<'s> TextCallees<'s> {
    /// Those of the source that was `parsed`.
    ///
    /// # Errors
    ///
    /// If the source is another one.
    pub fn new(source: &'s str, parsed: &Source<'_>) -> Result<TextCallees<'s>, ParseError> {
        Ok(TextCallees { reader: RefCell::new(Reader::new(source, parsed)?) })
    }
}

impl Callees for TextCallees<'_> {
    fn body<'a>(&self, method: MethodId, arena: &'a Bump) -> Option<Method<'a>> {
        let body = self.reader.borrow_mut().body(method, arena);
        body.ok().flatten().map(|body| body.method)
    }
}

/// A program of which nothing is known: every question is answered so that nothing can be built on it.
#[derive(Clone, Copy, Debug)]
pub struct NothingKnown;

impl World for NothingKnown {
    fn has_happened(&self, _: Question) -> Answer<bool> {
        Answer::settled(true)
    }

    fn body(&self, _: MethodId) -> Answer<Option<ContentKey>> {
        Answer::settled(None)
    }
}

/// A program that is all there is, made from a file with this content: its classes are all, and these bodies may be looked at.
pub fn closed_world<'m>(
    module: &'m Module,
    content: &[u8],
    bodies: impl IntoIterator<Item = MethodId>,
) -> ClosedWorld<'m> {
    let file = ContentKey::of(content);
    ClosedWorld::new(module, bodies.into_iter().map(|id| (id, file.of_method(id))))
}

#[cfg(test)]
mod tests {
    use dagwood_il::{Assumption, text};

    use super::*;
    use crate::manager::{Options, Request, optimize};
    use crate::strategy::WARM;

    #[test]
    fn bodies_of_text_are_there_as_often_as_they_are_asked_for() {
        let source = "method @f () -> () {\nb0:\n  return\n}\nmethod @g () -> ()\n";
        let arena = Bump::new();
        let parsed = text::parse(source, &arena).expect("valid");
        let callees = TextCallees::new(source, &parsed).expect("the same source");
        let [f, g] = ["f", "g"].map(|name| {
            parsed
                .module
                .methods
                .iter()
                .find(|(_, decl)| decl.name == name)
                .map(|(id, _)| id)
                .expect("declared")
        });
        let world = closed_world(&parsed.module, source.as_bytes(), [f]);
        for _ in 0..2 {
            assert_eq!(callees.body(f, &arena).map(|body| body.id()), Some(f));
            assert!(callees.body(g, &arena).is_none());
        }
        assert!(world.body(f).value.is_some() && world.body(g).value.is_none());
        assert!(NothingKnown.body(f).value.is_none() && NoCallees.body(f, &arena).is_none());
    }

    /// Methods may be looked at, until they are redefined.
    struct Open;

    impl World for Open {
        fn has_happened(&self, question: Question) -> Answer<bool> {
            Answer::to(question, false)
        }

        fn body(&self, method: MethodId) -> Answer<Option<ContentKey>> {
            let assumption = Some(Assumption::NotRedefined(method));
            Answer { value: Some(ContentKey(0)), assumption }
        }
    }

    #[test]
    fn what_was_asked_is_in_the_report_and_assumed_whether_or_not_it_was_used() {
        let source = "method @used () -> () {
b0:
  return
}
method @unused () -> () {
b0:
  goto b1
b1:
  poll
  goto b1
}
method @f () -> () {
b0:
  call @used()
  call @unused()
  return
}
";
        let arena = Bump::new();
        let parsed = text::parse(source, &arena).expect("valid");
        let module = &parsed.module;
        let callees = TextCallees::new(source, &parsed).expect("the same source");
        let closed = closed_world(module, source.as_bytes(), module.methods.keys());
        let options = Options::default();
        let worlds: [(&dyn World, usize, bool); 3] =
            [(&Open, 2, false), (&closed, 0, false), (&NothingKnown, 0, true)];
        for (world, assumptions, is_called) in worlds {
            let mut method = callees.body(parsed.bodies[2].method.id(), &arena).expect("it is there");
            let request = Request { world, callees: &callees, ..Request::new(module, WARM, &options) };
            let report = optimize(&request, &mut method, &mut ()).expect("it is well-formed");
            assert_eq!(report.asked.assumptions().len(), assumptions);
            let text = text::print_method(module, &method);
            assert!(text.contains("@unused(") && text.contains("@used(") == is_called, "{text}");
        }
    }
}
