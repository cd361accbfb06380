//! Methods assembled by hand: just enough machine code to try entries, raises and faults without a compiler.
//!
//! Methods take the context in `rdi` and two integers in `rsi` and `rdx`, and return one in `rax`.

use dagwood_codegen::{Artifact, Helper, Landing, Reloc, RelocKind, RelocTarget, Site};
use dagwood_il::entity::Entity;
use dagwood_il::layout::NativeWord;
use dagwood_il::{ClassId, KindSet, MethodId, NativeId, RaiseKind, SourcePos};

/// A handler whose code is not there yet.
#[derive(Clone, Copy)]
pub(crate) struct Handler(usize);

/// A method in the making.
pub(crate) struct Asm {
    artifact: Artifact,
    frame: u32,
}

impl Asm {
    /// A method with `frame` bytes for itself, a multiple of 16.
    pub(crate) fn new(frame: u8) -> Asm {
        assert!(frame.is_multiple_of(16) && frame < 128);
        let mut asm =
            Asm { artifact: Artifact { align: 16, ..Artifact::default() }, frame: u32::from(frame) };
        asm.artifact.frame_size = asm.frame + 16;
        // push rbp; mov rbp, rsp; sub rsp, frame
        asm.bytes(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, frame])
    }

    /// Appends instructions.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Asm {
        self.artifact.code.extend_from_slice(bytes);
        self
    }

    /// `mov eax, value`
    pub(crate) fn load(self, value: u32) -> Asm {
        self.bytes(&[0xb8]).bytes(&value.to_le_bytes())
    }

    /// Declares a handler, to be given to calls and bound to its code later.
    pub(crate) fn handler(&mut self, kinds: KindSet, class: Option<ClassId>) -> Handler {
        self.artifact.handlers.push(Landing { kinds, class, offset: 0 });
        Handler(self.artifact.handlers.len() - 1)
    }

    /// The handler's code starts here.
    pub(crate) fn bind(mut self, handler: Handler) -> Asm {
        self.artifact.handlers[handler.0].offset = self.artifact.code.len() as u32;
        self
    }

    fn call_target(
        mut self,
        target: RelocTarget,
        position: u32,
        raises: Option<(RaiseKind, u16)>,
        handlers: &[Handler],
    ) -> Asm {
        let offset = self.artifact.code.len() as u32 + 1;
        self.artifact.relocs.push(Reloc { offset, kind: RelocKind::Rel4, target, addend: -4 });
        let first = handlers.first().map_or(0, |handler| handler.0);
        assert!(handlers.iter().enumerate().all(|(index, handler)| handler.0 == first + index));
        self.artifact.sites.push(Site {
            return_offset: offset + 4,
            position: SourcePos(position),
            raises,
            frame_offset: self.frame,
            handlers_first: first as u32,
            handlers_count: handlers.len() as u16,
            references: None,
            frame: None,
        });
        self.bytes(&[0xe8, 0, 0, 0, 0])
    }

    /// Calls a method.
    pub(crate) fn call(self, method: usize, position: u32, handlers: &[Handler]) -> Asm {
        self.call_target(RelocTarget::Method(MethodId::new(method)), position, None, handlers)
    }

    /// Calls a helper.
    pub(crate) fn helper(self, helper: Helper, position: u32, handlers: &[Handler]) -> Asm {
        self.call_target(RelocTarget::Helper(helper), position, None, handlers)
    }

    /// Calls the native function `native` with `rsi` and `rdx` in the slots of a buffer at `rsp`, and loads its result.
    pub(crate) fn native(self, native: u32, position: u32, handlers: &[Handler]) -> Asm {
        assert!(self.frame >= 32);
        let word = NativeWord { native: NativeId::new(native as usize), slots: 2 };
        // mov [rsp], rsi; mov [rsp + 16], rdx; mov rdx, rsp; mov rsi, word
        let asm =
            self.bytes(&[0x48, 0x89, 0x34, 0x24, 0x48, 0x89, 0x54, 0x24, 16, 0x48, 0x89, 0xe2, 0x48, 0xbe]);
        let asm = asm.bytes(&word.encode().to_le_bytes()).helper(Helper::CallNative, position, handlers);
        // mov rax, [rsp]
        asm.bytes(&[0x48, 0x8b, 0x04, 0x24])
    }

    /// Raises.
    pub(crate) fn raise(self, kind: RaiseKind, reason: u16, position: u32, handlers: &[Handler]) -> Asm {
        self.call_target(RelocTarget::Helper(Helper::RaiseSite), position, Some((kind, reason)), handlers)
    }

    /// Raises a stack overflow if `rsp` is below the limit.
    pub(crate) fn check_stack(self, position: u32) -> Asm {
        // mov rax, [rdi]; cmp rsp, [rax]; jae over the call
        self.bytes(&[0x48, 0x8b, 0x07, 0x48, 0x3b, 0x20, 0x73, 5]).raise(
            RaiseKind::StackOverflow,
            0,
            position,
            &[],
        )
    }

    /// `leave; ret`
    pub(crate) fn ret(self) -> Asm {
        self.bytes(&[0xc9, 0xc3])
    }

    /// What was made.
    pub(crate) fn done(self) -> Artifact {
        self.artifact
    }
}

/// Gives all callee-saved registers but `rbp` values that nobody expects.
pub(crate) const SPOIL: &[u8] = &[
    0xbb, 0xef, 0xbe, 0, 0, // mov ebx, 0xbeef
    0x49, 0x89, 0xdc, // mov r12, rbx
    0x49, 0x89, 0xdd, // mov r13, rbx
    0x49, 0x89, 0xde, // mov r14, rbx
    0x49, 0x89, 0xdf, // mov r15, rbx
];

/// Calls a method with the first two slots, and stores what it returns in the first. Like a method of the `tail`
/// convention may, the method need not preserve any register: the shim does.
pub(crate) fn shim() -> Artifact {
    let code = vec![
        0x55, // push rbp
        0x48, 0x89, 0xe5, // mov rbp, rsp
        0x53, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, // push rbx, r12 to r15
        0x52, // push rdx
        0x48, 0x89, 0xf0, // mov rax, rsi
        0x48, 0x8b, 0x32, // mov rsi, [rdx]
        0x48, 0x8b, 0x52, 16, // mov rdx, [rdx + 16]
        0xff, 0xd0, // call rax
        0x5a, // pop rdx
        0x48, 0x89, 0x02, // mov [rdx], rax
        0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5b, // pop r15 to r12, rbx
        0x5d, // pop rbp
        0xc3, // ret
    ];
    Artifact { code, align: 16, frame_size: 64, ..Artifact::default() }
}
