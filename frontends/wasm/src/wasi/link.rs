//! WASI as imports of a store: every function of preview 1, under the names that programs import.

use std::cell::RefCell;
use std::rc::Rc;

use dagwood_il::RaiseKind;
use dagwood_runtime::thread::Interrupt;

use super::{FUNCTIONS, MODULE, Outcome, Wasi};
use crate::imports::{Caller, Linker};
use crate::trap::HostStop;
use crate::types::{FuncType, ValType};
use crate::value::Val;

/// The functions that may wait for something outside of the program.
const WAITING: [&str; 3] = ["fd_read", "fd_write", "poll_oneoff"];

/// Defines all functions of preview 1 in a linker, for one program. They use the first memory of the instance that
/// imports them. What the [interrupt](super::WasiConfig::interrupt) stops raises an interrupt with the reason
/// [`Interrupt::Timeout`].
///
/// The state is shared with the caller, who may look at it once the program has ended.
pub fn define(linker: &mut Linker, wasi: Wasi) -> Rc<RefCell<Wasi>> {
    let wasi = Rc::new(RefCell::new(wasi));
    for (index, function) in FUNCTIONS.iter().enumerate() {
        let types = |types: &[wasmparser::ValType]| -> Vec<ValType> {
            let known = types.iter().map(|ty| ValType::from_parser(*ty));
            known.map(|ty| ty.expect("preview 1 has numbers alone")).collect()
        };
        let ty = FuncType { params: types(function.params), results: types(function.results) };
        let wasi = Rc::clone(&wasi);
        let waits = WAITING.contains(&function.name);
        linker.define_function(MODULE, function.name, ty, move |caller: &Caller<'_>, args: &[Val]| {
            let raw: Vec<u64> = args.iter().map(raw).collect();
            let call = || caller.with_memory(|memory| wasi.borrow_mut().call(index, &raw, memory));
            match if waits { caller.store().parked(call) } else { call() } {
                Ok(Outcome::Errno(errno)) => Ok(vec![Val::I32(errno as i32)]),
                Ok(Outcome::Exit(code)) => Err(HostStop::Exit(code)),
                Err(super::CallError::Interrupted) => {
                    Err(HostStop::trap(RaiseKind::Interrupt, Interrupt::Timeout.reason()))
                }
                Err(error) => Err(HostStop::failed(error)),
            }
        });
    }
    wasi
}

/// A number as WASI takes it: an `i32` is zero-extended.
fn raw(value: &Val) -> u64 {
    match value {
        Val::I32(value) => u64::from(*value as u32),
        Val::I64(value) => *value as u64,
        _ => 0,
    }
}
