//! From `wasmparser`'s sections to [`Module`]. Each section has been validated when it gets here.

use std::ops::Range;

use wasmparser::{DataKind, ElementKind, ExternalKind, KnownCustom, Name, Payload, TypeRef};

use super::{
    ConstExpr, Data, Element, ElementItems, Export, ExportKind, Import, MAX_FUNCTION_BYTES, Module,
    PAGE_BYTES, SegmentMode,
};
use crate::error::{Error, ErrorKind};
use crate::types::{ExternType, FuncType, GlobalType, Limits, TableType, ValType};

impl Module {
    /// Takes over what a section says.
    pub(super) fn section(&mut self, payload: Payload<'_>) -> Result<(), Error> {
        match payload {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    self.types.push(func_type(&ty?)?);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    self.import(import?)?;
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    self.tables.push(table_type(&table?.ty)?);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memories.push(memory_type(&memory?)?);
                }
            }
            Payload::TagSection(section) => {
                for tag in section {
                    self.tags.push(tag?.func_type_idx);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global?;
                    self.globals.push(global_type(&global.ty)?);
                    self.global_values.push(ConstExpr::read(&global.init_expr)?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    self.export(&export?)?;
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(section) => {
                for element in section {
                    self.element(element?)?;
                }
            }
            Payload::DataSection(section) => {
                for data in section {
                    self.data_segment(&data?)?;
                }
            }
            Payload::CodeSectionEntry(body) => {
                let range = byte_range(&body.range());
                if range.len() > MAX_FUNCTION_BYTES {
                    let message =
                        format!("a body of {} bytes; {MAX_FUNCTION_BYTES} are allowed", range.len());
                    return Err(Error::at(ErrorKind::Limit, range.start as u64, message));
                }
                self.bodies.push(range);
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    self.names(names);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, import: wasmparser::Import<'_>) -> Result<(), Error> {
        let ty = match import.ty {
            TypeRef::Func(ty) => {
                self.function_names
                    .insert(self.functions.len() as u32, format!("{}.{}", import.module, import.name));
                self.functions.push(ty);
                self.imported_functions += 1;
                ExternType::Func(self.types[ty as usize].clone())
            }
            TypeRef::Table(ty) => {
                let ty = table_type(&ty)?;
                self.tables.push(ty);
                self.imported_tables += 1;
                ExternType::Table(ty)
            }
            TypeRef::Memory(ty) => {
                let limits = memory_type(&ty)?;
                self.memories.push(limits);
                self.imported_memories += 1;
                ExternType::Memory(limits)
            }
            TypeRef::Global(ty) => {
                let ty = global_type(&ty)?;
                self.globals.push(ty);
                self.imported_globals += 1;
                ExternType::Global(ty)
            }
            TypeRef::Tag(ty) => {
                self.tags.push(ty.func_type_idx);
                self.imported_tags += 1;
                ExternType::Tag(self.types[ty.func_type_idx as usize].clone())
            }
            TypeRef::FuncExact(_) => {
                return Err(Error::new(ErrorKind::Unsupported, "import of a function of an exact type"));
            }
        };
        self.imports.push(Import { module: import.module.into(), name: import.name.into(), ty });
        Ok(())
    }

    fn export(&mut self, export: &wasmparser::Export<'_>) -> Result<(), Error> {
        let kind = match export.kind {
            ExternalKind::Func => ExportKind::Func,
            ExternalKind::Table => ExportKind::Table,
            ExternalKind::Memory => ExportKind::Memory,
            ExternalKind::Global => ExportKind::Global,
            ExternalKind::Tag => ExportKind::Tag,
            ExternalKind::FuncExact => {
                return Err(Error::new(ErrorKind::Unsupported, "export of a function of an exact type"));
            }
        };
        if kind == ExportKind::Func {
            self.function_names.entry(export.index).or_insert_with(|| export.name.into());
        }
        self.exports.push(Export { name: export.name.into(), kind, index: export.index });
        Ok(())
    }

    fn element(&mut self, element: wasmparser::Element<'_>) -> Result<(), Error> {
        let mode = match element.kind {
            ElementKind::Passive => SegmentMode::Passive,
            ElementKind::Declared => SegmentMode::Declared,
            ElementKind::Active { table_index, offset_expr } => {
                SegmentMode::Active(table_index.unwrap_or(0), ConstExpr::read(&offset_expr)?)
            }
        };
        let items = match element.items {
            wasmparser::ElementItems::Functions(items) => {
                ElementItems::Functions(items.into_iter().collect::<Result<_, _>>()?)
            }
            wasmparser::ElementItems::Expressions(_, items) => ElementItems::Expressions(
                items.into_iter().map(|item| ConstExpr::read(&item?)).collect::<Result<_, _>>()?,
            ),
        };
        self.elements.push(Element { mode, items });
        Ok(())
    }

    fn data_segment(&mut self, data: &wasmparser::Data<'_>) -> Result<(), Error> {
        let mode = match &data.kind {
            DataKind::Passive => SegmentMode::Passive,
            DataKind::Active { memory_index, offset_expr } => {
                SegmentMode::Active(*memory_index, ConstExpr::read(offset_expr)?)
            }
        };
        let whole = byte_range(&data.range);
        self.data.push(Data { mode, range: whole.end - data.data.len()..whole.end });
        Ok(())
    }

    /// Reads names as far as they are well-formed: a custom section is never a reason to refuse a module.
    fn names(&mut self, names: wasmparser::NameSectionReader<'_>) {
        for name in names {
            let Ok(Name::Function(functions)) = name else { continue };
            for naming in functions {
                let Ok(naming) = naming else { break };
                if (naming.index as usize) < self.functions.len() {
                    self.function_names.insert(naming.index, naming.name.into());
                }
            }
        }
    }
}

/// A range of a module in memory, whose offsets fit.
fn byte_range(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn val_type(ty: wasmparser::ValType) -> Result<ValType, Error> {
    ValType::from_parser(ty).ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("values of type {ty}")))
}

fn func_type(ty: &wasmparser::FuncType) -> Result<FuncType, Error> {
    let list =
        |types: &[wasmparser::ValType]| types.iter().map(|ty| val_type(*ty)).collect::<Result<Vec<_>, _>>();
    Ok(FuncType { params: list(ty.params())?, results: list(ty.results())? })
}

fn table_type(ty: &wasmparser::TableType) -> Result<TableType, Error> {
    let element = val_type(wasmparser::ValType::Ref(ty.element_type))?;
    Ok(TableType { element, limits: Limits { min: ty.initial, max: ty.maximum, is_64: ty.table64 } })
}

fn memory_type(ty: &wasmparser::MemoryType) -> Result<Limits, Error> {
    let page_bits = ty.page_size_log2.unwrap_or(PAGE_BYTES.trailing_zeros());
    if ty.shared || page_bits != PAGE_BYTES.trailing_zeros() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a memory that is shared or has pages of another size",
        ));
    }
    Ok(Limits { min: ty.initial, max: ty.maximum, is_64: ty.memory64 })
}

fn global_type(ty: &wasmparser::GlobalType) -> Result<GlobalType, Error> {
    Ok(GlobalType { value: val_type(ty.content_type)?, is_mutable: ty.mutable })
}
