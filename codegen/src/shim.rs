//! The way into compiled code: from a buffer of values to the `tail` convention and back.

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{
    AbiParam, Function, InstBuilder, MemFlagsData, Signature as ClifSignature, types,
};
use cranelift_codegen::isa::CallConv;
use dagwood_il::Signature;
use dagwood_il::layout::BUFFER_SLOT_BYTES;

use crate::imports::method_signature;
use crate::lower::clif_type;

/// Builds `system_v fn(context, code, buffer)`.
pub(crate) fn build(func: &mut Function, signature: &Signature) {
    let mut own = ClifSignature::new(CallConv::SystemV);
    own.params.extend([AbiParam::new(types::I64); 3]);
    func.signature = own;
    let callee = func.import_signature(method_signature(signature));
    let entry = func.dfg.make_block();
    let [context, code, buffer] = [(); 3].map(|()| func.dfg.append_block_param(entry, types::I64));
    func.layout.append_block(entry);
    let mut cursor = FuncCursor::new(func).at_bottom(entry);
    let flags = MemFlagsData::new().with_notrap();
    let slot =
        |index: usize| i32::try_from(index * BUFFER_SLOT_BYTES as usize).expect("signatures are bounded");
    let mut arguments = vec![context];
    for (index, ty) in signature.params.iter().enumerate() {
        arguments.push(cursor.ins().load(clif_type(*ty), flags, buffer, slot(index)));
    }
    let call = cursor.ins().call_indirect(callee, code, &arguments);
    for index in 0..signature.results.len() {
        let result = cursor.func.dfg.inst_results(call)[index];
        cursor.ins().store(flags, result, buffer, slot(index));
    }
    cursor.ins().return_(&[]);
}
