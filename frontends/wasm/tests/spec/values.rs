//! Arguments and expected results of a script.

use dagwood_wasm::{Val, ValType};
use wast::core::{AbstractHeapType, HeapType, NanPattern, WastArgCore, WastRetCore};
use wast::{WastArg, WastRet};

/// The type of references to a heap type, if the frontend has it.
fn reference(heap: &HeapType<'_>) -> Option<ValType> {
    match heap {
        HeapType::Abstract { ty, .. } => match ty {
            AbstractHeapType::Func | AbstractHeapType::NoFunc => Some(ValType::FuncRef),
            AbstractHeapType::Extern | AbstractHeapType::NoExtern => Some(ValType::ExternRef),
            AbstractHeapType::Exn | AbstractHeapType::NoExn => Some(ValType::ExnRef),
            _ => None,
        },
        _ => None,
    }
}

/// An argument as a value; none if the frontend has no such values.
pub(crate) fn argument(arg: &WastArg<'_>) -> Option<Val> {
    let WastArg::Core(arg) = arg else { return None };
    Some(match arg {
        WastArgCore::I32(value) => Val::I32(*value),
        WastArgCore::I64(value) => Val::I64(*value),
        WastArgCore::F32(value) => Val::F32(value.bits),
        WastArgCore::F64(value) => Val::F64(value.bits),
        WastArgCore::RefNull(heap) => Val::zero(reference(heap)?),
        WastArgCore::RefExtern(number) => Val::ExternRef(Some(*number)),
        WastArgCore::V128(_) | WastArgCore::RefHost(_) => return None,
    })
}

/// Whether a value is what the script expects.
pub(crate) fn is_expected(value: &Val, expected: &WastRet<'_>) -> bool {
    match expected {
        WastRet::Core(expected) => is_expected_core(value, expected),
        _ => false,
    }
}

fn is_expected_core(value: &Val, expected: &WastRetCore<'_>) -> bool {
    match (value, expected) {
        (Val::I32(value), WastRetCore::I32(expected)) => value == expected,
        (Val::I64(value), WastRetCore::I64(expected)) => value == expected,
        (Val::F32(bits), WastRetCore::F32(expected)) => match expected {
            NanPattern::Value(expected) => *bits == expected.bits,
            NanPattern::CanonicalNan => bits & 0x7fff_ffff == 0x7fc0_0000,
            NanPattern::ArithmeticNan => bits & 0x7fc0_0000 == 0x7fc0_0000,
        },
        (Val::F64(bits), WastRetCore::F64(expected)) => match expected {
            NanPattern::Value(expected) => *bits == expected.bits,
            NanPattern::CanonicalNan => bits & !(1 << 63) == 0x7ff8_0000_0000_0000,
            NanPattern::ArithmeticNan => bits & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
        },
        (value, WastRetCore::RefNull(heap)) => {
            let is_type = heap.as_ref().is_none_or(|heap| reference(heap) == Some(value.ty()));
            is_type && *value == Val::zero(value.ty())
        }
        (Val::ExternRef(Some(number)), WastRetCore::RefExtern(expected)) => {
            expected.is_none_or(|expected| *number == expected)
        }
        (Val::FuncRef(func), WastRetCore::RefFunc(_)) => func.is_some(),
        (value, WastRetCore::Either(cases)) => cases.iter().any(|case| is_expected_core(value, case)),
        _ => false,
    }
}
