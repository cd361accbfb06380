//! Classes and interfaces: what they extend, their members, and the tables by which calls find methods.

use super::*;

impl<'t, 's> Reader<'t, 's> {
    pub(super) fn interface(&mut self, cursor: &mut Cursor<'t, 's>) -> Result<()> {
        cursor.expect("interface")?;
        let name = cursor.word("a name")?;
        let interfaces = if cursor.eat("extends") { self.interfaces(cursor)? } else { Vec::new() };
        let mut class = self.begin(name, None, interfaces)?;
        (class.is_interface, class.is_abstract) = (true, true);
        let id = self.program.classes.push(class);
        cursor.expect("{")?;
        while !cursor.eat("}") {
            cursor.expect("method")?;
            let name = cursor.word("a name")?;
            let shape = self.shape(cursor)?;
            self.slot(id, name, shape, None)?;
        }
        Ok(())
    }

    pub(super) fn class(&mut self, cursor: &mut Cursor<'t, 's>) -> Result<()> {
        let is_abstract = cursor.eat("abstract");
        cursor.expect("class")?;
        let name = cursor.word("a name")?;
        let superclass = match cursor.eat("extends") {
            true => Some(self.above(cursor, Sort::Class)?),
            false => Some(self.program.known.object).filter(|_| !self.program.classes.is_empty()),
        };
        let interfaces = if cursor.eat("implements") { self.interfaces(cursor)? } else { Vec::new() };
        let mut class = self.begin(name, superclass, interfaces)?;
        class.is_abstract = is_abstract;
        let id = self.program.classes.push(class);
        cursor.expect("{")?;
        while !cursor.eat("}") {
            self.member(id, cursor)?;
        }
        self.implement(id, name)
    }

    fn interfaces(&self, cursor: &mut Cursor<'t, 's>) -> Result<Vec<ClassId>> {
        let mut interfaces = vec![self.above(cursor, Sort::Interface)?];
        while cursor.eat(",") {
            interfaces.push(self.above(cursor, Sort::Interface)?);
        }
        interfaces.sort_unstable();
        interfaces.dedup();
        Ok(interfaces)
    }

    /// A class or interface that another names as above itself.
    fn above(&self, cursor: &mut Cursor<'t, 's>, sort: Sort) -> Result<ClassId> {
        let token = cursor.here();
        let id = self.class_name(cursor)?;
        match self.program.classes.get(id) {
            Some(class) if class.is_interface == (sort == Sort::Interface) => Ok(id),
            _ if sort == Sort::Interface => Err(wrong(token, "an interface that stands above")),
            _ => Err(wrong(token, "a class that stands above")),
        }
    }

    /// A class with what it has from those above it.
    fn begin(
        &mut self,
        name: Token<'s>,
        superclass: Option<ClassId>,
        interfaces: Vec<ClassId>,
    ) -> Result<Class> {
        let classes = &self.program.classes;
        let mut ancestors = vec![ClassId::new(classes.len()), self.program.known.object];
        let above = superclass.iter().chain(&interfaces);
        ancestors.extend(above.flat_map(|above| &classes[*above].ancestors));
        ancestors.sort_unstable();
        ancestors.dedup();
        let above = superclass.map(|above| &classes[above]);
        let slots = above.map_or_else(Vec::new, |above| above.slots.clone());
        let size_bytes = above.map_or(il::layout::HEADER_BYTES, |above| above.size_bytes);
        self.add_entries(name, slots.len() + ancestors.len())?;
        Ok(Class {
            name: name.text.into(),
            superclass,
            interfaces,
            is_interface: false,
            is_abstract: false,
            size_bytes,
            slots,
            implementations: Vec::new(),
            ancestors,
        })
    }

    /// Counts entries of tables.
    fn add_entries(&mut self, name: Token<'s>, count: usize) -> Result<()> {
        self.entries += count;
        bound(name.place, "entries in the tables of all classes", self.entries, MAX_ENTRIES)
    }

    fn member(&mut self, class: ClassId, cursor: &mut Cursor<'t, 's>) -> Result<()> {
        let is_static = cursor.eat("static");
        if cursor.eat("field") {
            let name = cursor.word("a name")?;
            let ty = self.ty(cursor)?;
            return self.field(class, name, ty, is_static);
        }
        let is_abstract = !is_static && cursor.is("abstract");
        if is_abstract && !self.program.classes[class].is_abstract {
            return Err(cursor.wrong("no abstract method in a class that is not abstract"));
        }
        if is_abstract {
            cursor.take();
        }
        if !cursor.eat("method") {
            return Err(cursor.wrong("`field`, `method`, `static`, `abstract` or `}`"));
        }
        let name = cursor.word("a name")?;
        if is_abstract {
            let shape = self.shape(cursor)?;
            return self.slot(class, name, shape, None);
        }
        self.method(class, name, is_static, cursor)
    }

    fn field(&mut self, class: ClassId, name: Token<'s>, ty: Type, is_static: bool) -> Result<()> {
        let size = &mut self.program.classes[class].size_bytes;
        let bytes = ty.lowered().bytes();
        let offset = size.next_multiple_of(bytes);
        if !is_static {
            *size = offset + bytes;
        }
        bound(name.place, "bytes in an object", *size as usize, MAX_OBJECT_BYTES)?;
        let offset = (!is_static).then_some(offset);
        let id = self.program.members.push(Member { class, name: name.text.into(), ty, offset });
        match self.members.insert((class, name.text), id) {
            None => Ok(()),
            Some(_) => Err(wrong(name, "another name: the class has a field or static of this one")),
        }
    }

    fn method(
        &mut self,
        class: ClassId,
        name: Token<'s>,
        is_static: bool,
        cursor: &mut Cursor<'t, 's>,
    ) -> Result<()> {
        let mut locals = Vec::new();
        if !is_static {
            locals.push(Local { name: "this".into(), ty: Type::Class(class) });
        }
        let own = cursor.list(("(", ")"), |cursor| {
            let name = cursor.word("a parameter's name")?.text.into();
            Ok(Local { name, ty: self.ty(cursor)? })
        })?;
        let shape =
            Shape { params: own.iter().map(|local| local.ty).collect(), result: self.result(cursor)? };
        locals.extend(own);
        bound(name.place, "parameters", locals.len(), MAX_TYPES)?;
        let id = self.program.methods.push(Method {
            class,
            name: name.text.into(),
            is_static,
            params: locals.len(),
            result: shape.result,
            locals,
            code: Vec::new(),
            places: Vec::new(),
            labels: Vec::new(),
            handlers: Vec::new(),
        });
        if self.methods.insert((class, name.text), id).is_some() {
            return Err(wrong(name, "another name: the class has a method of this one"));
        }
        if !is_static && name.text != INIT {
            self.slot(class, name, shape, Some(id))?;
        }
        self.bodies.push((id, *cursor));
        body::skip(cursor)
    }

    /// Gives a class a method in its table: in place of one above it with the same name, or in a new slot.
    fn slot(
        &mut self,
        class: ClassId,
        name: Token<'s>,
        shape: Shape,
        method: Option<MethodId>,
    ) -> Result<()> {
        let slots = &mut self.program.classes[class].slots;
        match slots.iter_mut().find(|slot| slot.name == name.text) {
            None => {
                slots.push(Slot { name: name.text.into(), shape, method });
                bound(name.place, "methods in a class", slots.len(), MAX_SLOTS)?;
                self.add_entries(name, 1)
            }
            Some(_) if method.is_none() => Err(wrong(name, "another name: there is a method of this one")),
            Some(above) if above.shape != shape => Err(wrong(
                name,
                "the parameters and result of the method that this one overrides, or another name",
            )),
            Some(above) => {
                above.method = method;
                Ok(())
            }
        }
    }

    /// Finds the methods that stand for those of interfaces.
    fn implement(&mut self, id: ClassId, name: Token<'s>) -> Result<()> {
        let class = &self.program.classes[id];
        let missing = |what: String| Error::new(name.place, what, "one, or `abstract` before `class`");
        if let Some(slot) = class.slots.iter().find(|slot| slot.method.is_none() && !class.is_abstract) {
            return Err(missing(format!("`{}` has no method `{}`", class.name, slot.name)));
        }
        let mut implementations = Vec::new();
        for interface in class.ancestors.iter().filter(|id| self.program.classes[**id].is_interface) {
            let declared = &self.program.classes[*interface];
            for (slot, wanted) in (0..).zip(&declared.slots) {
                let found =
                    class.slots.iter().find(|slot| slot.name == wanted.name && slot.shape == wanted.shape);
                match found.and_then(|slot| slot.method) {
                    Some(method) => {
                        implementations.push(il::Implementation { interface: *interface, slot, method });
                    }
                    None if class.is_abstract => {}
                    None => {
                        let wanted = format!("{}.{}", declared.name, wanted.name);
                        return Err(missing(format!("`{}` has no method that fits `{wanted}`", class.name)));
                    }
                }
            }
        }
        self.add_entries(name, implementations.len())?;
        self.program.classes[id].implementations = implementations;
        Ok(())
    }
}

/// What may stand above.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Class,
    Interface,
}
