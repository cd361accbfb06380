//! Calls with Rust's types: the signature is checked once, when the method is looked up.

use std::fmt;
use std::marker::PhantomData;

use dagwood_il::eval::Value;
use dagwood_il::{MethodId, Signature, Type};

use crate::jit::{CallCx, CallError, Jit};

/// A Rust type with which a value of the IL can be passed.
pub trait Scalar: Copy {
    /// The IL's type.
    const TYPE: Type;
    /// As a value of the IL.
    fn into_value(self) -> Value;
    /// From a value of that type.
    fn from_value(value: Value) -> Self;
}

/// Declares which Rust types stand for which types of the IL, and how.
macro_rules! scalars {
    ($($rust:ty, $ty:ident, $into:expr, $from:expr;)*) => {$(
        impl Scalar for $rust {
            const TYPE: Type = Type::$ty;

            fn into_value(self) -> Value {
                let into: fn($rust) -> Value = $into;
                into(self)
            }

            fn from_value(value: Value) -> $rust {
                let from: fn(Value) -> $rust = $from;
                from(value)
            }
        }
    )*};
}

scalars! {
    i8, I8, Value::i8, |value| value.low() as i8;
    i16, I16, Value::i16, |value| value.low() as i16;
    i32, I32, Value::i32, |value| value.low() as i32;
    i64, I64, Value::i64, |value| value.low() as i64;
    f32, F32, Value::f32, Value::to_f32;
    f64, F64, Value::f64, Value::to_f64;
    usize, Addr, |address| Value::addr(address as u64), |value| value.low() as usize;
}

/// A tuple of [`Scalar`]s: the parameters or the results of a method.
pub trait Scalars: Sized {
    /// The types of the IL.
    fn types() -> Vec<Type>;
    /// As values of the IL.
    fn into_values(self) -> Vec<Value>;
    /// From values of those types.
    fn from_values(values: &[Value]) -> Self;
}

/// Implements [`Scalars`] for tuples.
macro_rules! tuples {
    ($(($($name:ident $index:tt),*);)*) => {$(
        #[allow(clippy::unused_unit, reason = "the empty tuple is one of them")]
        impl<$($name: Scalar),*> Scalars for ($($name,)*) {
            fn types() -> Vec<Type> {
                vec![$($name::TYPE),*]
            }

            fn into_values(self) -> Vec<Value> {
                vec![$(self.$index.into_value()),*]
            }

            fn from_values(_values: &[Value]) -> Self {
                ($($name::from_value(_values[$index]),)*)
            }
        }
    )*};
}

tuples! {
    ();
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
}

/// A method has another signature than it was looked up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureError {
    /// What the method takes and returns.
    pub declared: Signature,
    /// What was asked for.
    pub asked: Signature,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Signature { params, results } = &self.declared;
        let asked = &self.asked;
        write!(
            f,
            "the method is {:?} -> {:?}, not {:?} -> {:?}",
            params.as_slice(),
            results.as_slice(),
            asked.params.as_slice(),
            asked.results.as_slice()
        )
    }
}

impl std::error::Error for SignatureError {}

/// A method that takes `A` and returns `R`, both tuples.
#[derive(Debug)]
pub struct Typed<'j, A, R> {
    jit: &'j Jit,
    method: MethodId,
    types: PhantomData<fn(A) -> R>,
}

impl Jit {
    /// The method, to be called with Rust's types.
    ///
    /// # Errors
    ///
    /// If its signature is another.
    ///
    /// # Panics
    ///
    /// If the module does not declare it.
    pub fn typed<A: Scalars, R: Scalars>(&self, method: MethodId) -> Result<Typed<'_, A, R>, SignatureError> {
        let declared = self.module().method_signature(method);
        let asked = Signature::new(&A::types(), &R::types());
        if *declared == asked {
            Ok(Typed { jit: self, method, types: PhantomData })
        } else {
            Err(SignatureError { declared: declared.clone(), asked })
        }
    }
}

impl<A: Scalars, R: Scalars> Typed<'_, A, R> {
    /// Calls the method.
    ///
    /// # Errors
    ///
    /// As [`Jit::call`].
    pub fn call(&self, cx: CallCx<'_>, args: A) -> Result<R, CallError> {
        let results = self.jit.call(cx, self.method, &args.into_values())?;
        Ok(R::from_values(&results))
    }
}
