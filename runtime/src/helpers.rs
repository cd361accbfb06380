//! The addresses of the functions that compiled code calls by name.
//!
//! All of them belong to this program's text, which the default placement of a code space is near to.

use dagwood_codegen::{FloatWidth, Helper, Rounding};

use crate::{stubs, unwind};

/// Where the code of `helper` is.
pub fn address(helper: Helper) -> usize {
    match helper {
        Helper::RaiseSite => stubs::raise_site as *const () as usize,
        Helper::Throw => stubs::throw as *const () as usize,
        Helper::CallNative => stubs::call_native as *const () as usize,
        Helper::Poll => stubs::poll as *const () as usize,
        Helper::Allocate => stubs::allocate as *const () as usize,
        Helper::InstanceOf => unwind::instance_of as *const () as usize,
        Helper::MemoryCopy => stubs::memory_copy as *const () as usize,
        Helper::MemoryFill => stubs::memory_fill as *const () as usize,
        Helper::MemoryCompare => stubs::memory_compare as *const () as usize,
        Helper::FremF32 => frem_f32 as *const () as usize,
        Helper::FremF64 => frem_f64 as *const () as usize,
        Helper::FmaF32 => fma_f32 as *const () as usize,
        Helper::FmaF64 => fma_f64 as *const () as usize,
        Helper::Round(rounding, width) => round(rounding, width),
    }
}

fn round(rounding: Rounding, width: FloatWidth) -> usize {
    match (rounding, width) {
        (Rounding::Floor, FloatWidth::F32) => floor_f32 as *const () as usize,
        (Rounding::Floor, FloatWidth::F64) => floor_f64 as *const () as usize,
        (Rounding::Ceil, FloatWidth::F32) => ceil_f32 as *const () as usize,
        (Rounding::Ceil, FloatWidth::F64) => ceil_f64 as *const () as usize,
        (Rounding::Trunc, FloatWidth::F32) => trunc_f32 as *const () as usize,
        (Rounding::Trunc, FloatWidth::F64) => trunc_f64 as *const () as usize,
        (Rounding::Nearest, FloatWidth::F32) => nearest_f32 as *const () as usize,
        (Rounding::Nearest, FloatWidth::F64) => nearest_f64 as *const () as usize,
    }
}

/// Declares functions on floats that compiled code calls.
macro_rules! float_functions {
    ($($name:ident($($operand:ident),*): $float:ty = $value:expr;)*) => {$(
        extern "sysv64" fn $name($($operand: $float),*) -> $float {
            $value
        }
    )*};
}

float_functions! {
    frem_f32(left, right): f32 = left % right;
    frem_f64(left, right): f64 = left % right;
    fma_f32(left, right, addend): f32 = left.mul_add(right, addend);
    fma_f64(left, right, addend): f64 = left.mul_add(right, addend);
    floor_f32(value): f32 = value.floor();
    floor_f64(value): f64 = value.floor();
    ceil_f32(value): f32 = value.ceil();
    ceil_f64(value): f64 = value.ceil();
    trunc_f32(value): f32 = value.trunc();
    trunc_f64(value): f64 = value.trunc();
    nearest_f32(value): f32 = value.round_ties_even();
    nearest_f64(value): f64 = value.round_ties_even();
}
