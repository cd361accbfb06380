//! Each operation against an oracle that computes another way: exact integers of 128 bits, bit by bit, or through a
//! wider float. Exhaustive at 8 bits, sampled above.

use super::*;

const INTS: [Type; 4] = [Type::I8, Type::I16, Type::I32, Type::I64];

/// A reproducible stream of bits (xorshift).
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// All pairs of 8-bit integers; of wider ones the edges, and many others.
fn pairs(ty: Type) -> Vec<(Value, Value)> {
    let values: Vec<u64> = match ty {
        Type::I8 => (0..256).collect(),
        _ => {
            let mut bits = Bits(0x9e37_79b9_7f4a_7c15 ^ u64::from(ty.bits()));
            let powers = [0, 1, 7, 8, 15, 16, 23, 31, 32, 53, 62, 63].map(|bit| 1_u64 << bit);
            let edges = powers.into_iter().flat_map(|power| [power - 1, power, power + 1]);
            let random = (0..40).map(|_| bits.next() >> (bits.next() % u64::from(ty.bits())));
            edges.chain(random.collect::<Vec<_>>()).collect()
        }
    };
    let of = |bits: &u64| Value::from_bits(ty, *bits);
    values.iter().flat_map(|a| values.iter().map(move |b| (of(a), of(b)))).collect()
}

/// The value as an exact integer.
fn exact(value: Value, is_signed: bool) -> i128 {
    let mut sum = 0;
    for bit in 0..value.ty().bits() {
        if value.bits() >> bit & 1 == 1 {
            let is_sign = is_signed && bit == value.ty().bits() - 1;
            sum += if is_sign { -(1_i128 << bit) } else { 1_i128 << bit };
        }
    }
    sum
}

/// The bits of a value, the lowest first.
fn bits_of(value: Value) -> Vec<bool> {
    (0..value.ty().bits()).map(|bit| value.bits() >> bit & 1 == 1).collect()
}

fn from_bits(ty: Type, bits: &[bool]) -> Value {
    Value::new(ty, bits.iter().rev().fold(0, |sum, bit| sum << 1 | u128::from(*bit)))
}

/// Quotient and remainder toward zero, by magnitude; none by zero.
fn divide(a: i128, b: i128) -> Option<(i128, i128)> {
    let (q, r) = (a.unsigned_abs().checked_div(b.unsigned_abs())?, a.unsigned_abs() % b.unsigned_abs());
    let sign =
        |negative: bool, magnitude: u128| if negative { -(magnitude as i128) } else { magnitude as i128 };
    Some((sign((a < 0) != (b < 0), q), sign(a < 0, r)))
}

/// What an operation on two integers should give.
fn binary_oracle(opcode: Opcode, a: Value, b: Value) -> Option<Value> {
    use Opcode::*;
    let ty = a.ty();
    let width = ty.bits() as usize;
    let (sa, sb, ua, ub) = (exact(a, true), exact(b, true), exact(a, false), exact(b, false));
    let distance = (ub % width as i128) as usize;
    let bits = if matches!(opcode, Shl | UShr | SShr | RotL | RotR) { bits_of(a) } else { Vec::new() };
    let shifted =
        |at: &dyn Fn(usize) -> bool| from_bits(ty, &(0..width).map(at).collect::<Vec<_>>()).bits() as i128;
    let zip = |f: fn(bool, bool) -> bool| {
        let both: Vec<bool> = bits_of(a).into_iter().zip(bits_of(b)).map(|(a, b)| f(a, b)).collect();
        from_bits(ty, &both).bits() as i128
    };
    let result = match opcode {
        Add => ua + ub,
        Sub => ua - ub,
        Mul => return Some(Value::new(ty, (ua as u128).wrapping_mul(ub as u128))),
        SMulHigh => (sa * sb).div_euclid(1 << width),
        UMulHigh => return Some(Value::new(ty, (ua as u128 * ub as u128) / (1 << width))),
        SDiv => divide(sa, sb)?.0,
        SRem => divide(sa, sb)?.1,
        UDiv => divide(ua, ub)?.0,
        URem => divide(ua, ub)?.1,
        SMin => sa.min(sb),
        SMax => sa.max(sb),
        UMin => ua.min(ub),
        UMax => ua.max(ub),
        And => zip(|a, b| a && b),
        Or => zip(|a, b| a || b),
        Xor => zip(|a, b| a != b),
        Shl => shifted(&|bit| bit >= distance && bits[bit - distance]),
        UShr => shifted(&|bit| bit + distance < width && bits[bit + distance]),
        SShr => shifted(&|bit| bits[(bit + distance).min(width - 1)]),
        RotL => shifted(&|bit| bits[(bit + width - distance) % width]),
        RotR => shifted(&|bit| bits[(bit + distance) % width]),
        _ => unreachable!("{opcode} is not an operation on two integers"),
    };
    Some(Value::new(ty, result as u128))
}

#[test]
fn integers_are_as_exact_arithmetic_says() {
    use Opcode::*;
    let opcodes = [
        Add, Sub, Mul, SMulHigh, UMulHigh, SDiv, UDiv, SRem, URem, SMin, SMax, UMin, UMax, And, Or, Xor, Shl,
        SShr, UShr, RotL, RotR,
    ];
    for ty in INTS {
        for (a, b) in pairs(ty) {
            for opcode in opcodes {
                let expected = binary_oracle(opcode, a, b);
                assert_eq!(evaluate(opcode, ty, &[a, b]), expected, "{opcode} {a}, {b}");
            }
        }
    }
}

#[test]
fn comparisons_are_as_exact_arithmetic_says() {
    use Opcode::*;
    for ty in INTS {
        for (a, b) in pairs(ty) {
            let (signed, unsigned) =
                (exact(a, true).cmp(&exact(b, true)), exact(a, false).cmp(&exact(b, false)));
            let expected = [
                (Eq, unsigned.is_eq()),
                (Ne, unsigned.is_ne()),
                (SLt, signed.is_lt()),
                (SLe, signed.is_le()),
                (SGt, signed.is_gt()),
                (SGe, signed.is_ge()),
                (ULt, unsigned.is_lt()),
                (ULe, unsigned.is_le()),
                (UGt, unsigned.is_gt()),
                (UGe, unsigned.is_ge()),
            ];
            for (opcode, holds) in expected {
                assert_eq!(
                    evaluate(opcode, Type::I32, &[a, b]),
                    Some(Value::flag(holds)),
                    "{opcode} {a}, {b}"
                );
            }
        }
    }
}

#[test]
fn bit_operations_are_as_bits_say() {
    use Opcode::*;
    for ty in INTS {
        for (a, _) in pairs(ty).iter().step_by(7) {
            let bits = bits_of(*a);
            let width = bits.len();
            let bytes: Vec<bool> = bits.chunks(8).rev().flatten().copied().collect();
            let reversed: Vec<bool> = bits.iter().rev().copied().collect();
            let inverted: Vec<bool> = bits.iter().map(|bit| !bit).collect();
            let count = |count: usize| Value::from_bits(ty, count as u64);
            let expected = [
                (Neg, Value::new(ty, -exact(*a, true) as u128)),
                (Abs, Value::new(ty, exact(*a, true).unsigned_abs())),
                (Not, from_bits(ty, &inverted)),
                (Clz, count(bits.iter().rev().position(|bit| *bit).unwrap_or(width))),
                (Ctz, count(bits.iter().position(|bit| *bit).unwrap_or(width))),
                (Popcnt, count(bits.iter().filter(|bit| **bit).count())),
                (Bswap, from_bits(ty, &bytes)),
                (Bitrev, from_bits(ty, &reversed)),
            ];
            for (opcode, value) in expected {
                assert_eq!(evaluate(opcode, ty, &[*a]), Some(value), "{opcode} {a}");
            }
        }
    }
}

#[test]
fn checked_arithmetic_raises_where_the_exact_result_does_not_fit() {
    use Opcode::*;
    for ty in INTS {
        for (a, b) in pairs(ty) {
            let (sa, sb, ua, ub) = (exact(a, true), exact(b, true), exact(a, false), exact(b, false));
            let quotient = divide(sa, sb).map(|(quotient, _)| quotient);
            let expected = [
                (SAddChecked, Some(sa + sb), true),
                (SSubChecked, Some(sa - sb), true),
                (SMulChecked, Some(sa * sb), true),
                (UAddChecked, Some(ua + ub), false),
                (USubChecked, Some(ua - ub), false),
                // The product of two 64-bit integers may be past an i128, but then it does not fit anyway.
                (UMulChecked, Some(ua.checked_mul(ub).unwrap_or(i128::MAX)), false),
                (SDivChecked, quotient, true),
            ];
            for (opcode, result, is_signed) in expected {
                let expected = match result {
                    None => Err(RaiseKind::Division),
                    Some(result) => {
                        let value = Value::new(ty, result as u128);
                        if exact(value, is_signed) == result { Ok(value) } else { Err(RaiseKind::Overflow) }
                    }
                };
                assert_eq!(evaluate_checked(opcode, ty, &[a, b]), Some(expected), "{opcode} {a}, {b}");
            }
        }
    }
}

#[test]
fn checks_prove_what_they_say() {
    let [zero, five, minus] = [0, 5, -1].map(Value::i32);
    let check = |opcode, operands: &[Value]| evaluate_checked(opcode, operands[0].ty(), operands);
    assert_eq!(check(Opcode::DivCheck, &[zero]), Some(Err(RaiseKind::Division)));
    assert_eq!(check(Opcode::DivCheck, &[five]), Some(Ok(five)));
    assert_eq!(check(Opcode::SizeCheck, &[minus]), Some(Err(RaiseKind::NegativeSize)));
    assert_eq!(check(Opcode::SizeCheck, &[zero]), Some(Ok(zero)));
    assert_eq!(check(Opcode::BoundsCheck, &[zero, five]), Some(Ok(zero)));
    assert_eq!(check(Opcode::BoundsCheck, &[five, five]), Some(Err(RaiseKind::Bounds)));
    assert_eq!(check(Opcode::BoundsCheck, &[minus, five]), Some(Err(RaiseKind::Bounds)));
    assert_eq!(check(Opcode::NullCheck, &[Value::reference(0)]), Some(Err(RaiseKind::Null)));
    assert_eq!(check(Opcode::NullCheck, &[Value::addr(8)]), Some(Ok(Value::addr(8))));
    assert_eq!(check(Opcode::UDiv, &[five, zero]), Some(Err(RaiseKind::Division)));
    assert_eq!(check(Opcode::SRem, &[Value::i32(i32::MIN), minus]), Some(Ok(zero)));
    assert_eq!(check(Opcode::Add, &[five, five]), None);
}

/// Floats of all sorts: zeros, subnormals, integers, halves, the largest, infinities, NaNs, and random bits.
fn floats(ty: Type) -> Vec<Value> {
    let mut bits = Bits(42);
    let special =
        [0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 7.25, 127.9, 128.0, 255.5, 256.0, 32768.5, 65536.0, 8388609.0, 1e9]
            .into_iter()
            .chain([
                2147483647.5,
                2147483648.0,
                4294967295.9,
                4294967296.0,
                1e-40,
                1e-310,
                0.1,
                1e300,
                3.4e38,
            ])
            .chain([9223372036854775807.0, 18446744073709551615.0, f64::MAX, f64::INFINITY, f64::NAN]);
    let special: Vec<f64> = special.flat_map(|x| [x, -x]).collect();
    let random = (0..40).map(|_| bits.next());
    match ty {
        Type::F32 => {
            let random: Vec<Value> = random.map(|bits| Value::from_bits(ty, bits)).collect();
            special.iter().map(|x| Value::f32(*x as f32)).chain(random).collect()
        }
        _ => {
            let random: Vec<Value> = random.map(|bits| Value::from_bits(ty, bits)).collect();
            special.iter().map(|x| Value::f64(*x)).chain(random).collect()
        }
    }
}

fn assert_same(actual: Option<Value>, expected: Value, what: &str) {
    let actual = actual.expect("has a value");
    assert!(actual.same_modulo_nan(expected), "{what}: {actual}, not {expected}");
}

/// Twice as many digits and two more make rounding twice as good as rounding once, for these operations.
#[test]
fn single_precision_is_double_precision_rounded() {
    for a in floats(Type::F32) {
        for b in floats(Type::F32) {
            let (x, y) = (f64::from(a.to_f32()), f64::from(b.to_f32()));
            let expected =
                [(Opcode::FAdd, x + y), (Opcode::FSub, x - y), (Opcode::FMul, x * y), (Opcode::FDiv, x / y)];
            for (opcode, value) in expected {
                let what = format!("{opcode} {a}, {b}");
                assert_same(evaluate(opcode, Type::F32, &[a, b]), Value::f32(value as f32), &what);
            }
        }
        let root = Value::f32(f64::from(a.to_f32()).sqrt() as f32);
        assert_same(evaluate(Opcode::FSqrt, Type::F32, &[a]), root, "fsqrt");
    }
}

#[test]
fn minimum_and_maximum_order_zeros_and_keep_nans() {
    for ty in [Type::F32, Type::F64] {
        for a in floats(ty) {
            for b in floats(ty) {
                let is_below = evaluate(Opcode::FLt, Type::I32, &[a, b]) == Some(Value::i32(1));
                let is_zero = |value: Value| value.bits() << 1 & u128::from(ty.mask()) == 0;
                let is_negative = |value: Value| value.bits() >> (ty.bits() - 1) == 1;
                let is_first = if is_zero(a) && is_zero(b) { is_negative(a) } else { is_below };
                let (min, max) = match (a.is_nan(), b.is_nan()) {
                    (false, false) if is_first => (a, b),
                    (false, false) => (b, a),
                    (true, _) => (a, a),
                    (_, true) => (b, b),
                };
                assert_same(evaluate(Opcode::FMin, ty, &[a, b]), min, "fmin");
                assert_same(evaluate(Opcode::FMax, ty, &[a, b]), max, "fmax");
            }
        }
    }
}

#[test]
fn comparisons_with_nan_are_unordered() {
    let (nan, one) = (Value::f32(f32::NAN), Value::f32(1.0));
    for operands in [[nan, one], [one, nan], [nan, nan]] {
        for opcode in [Opcode::FEq, Opcode::FLt, Opcode::FLe, Opcode::FGt, Opcode::FGe] {
            assert_eq!(evaluate(opcode, Type::I32, &operands), Some(Value::i32(0)));
        }
        assert_eq!(evaluate(Opcode::FNe, Type::I32, &operands), Some(Value::i32(1)));
    }
    let zeros = [Value::f64(0.0), Value::f64(-0.0)];
    assert_eq!(evaluate(Opcode::FEq, Type::I32, &zeros), Some(Value::i32(1)));
}

#[test]
fn signs_are_bits_even_of_nans() {
    for ty in [Type::F32, Type::F64] {
        let sign = 1_u128 << (ty.bits() - 1);
        for a in floats(ty) {
            assert_eq!(evaluate(Opcode::FNeg, ty, &[a]), Some(Value::new(ty, a.bits() ^ sign)));
            assert_eq!(evaluate(Opcode::FAbs, ty, &[a]), Some(Value::new(ty, a.bits() & !sign)));
            let minus = Value::new(ty, sign);
            assert_eq!(evaluate(Opcode::FCopysign, ty, &[a, minus]), Some(Value::new(ty, a.bits() | sign)));
        }
    }
}

#[test]
fn rounding_goes_where_its_name_says() {
    use Opcode::*;
    let cases = [
        (2.5, [2.0, 3.0, 2.0, 2.0]),
        (3.5, [3.0, 4.0, 3.0, 4.0]),
        (-2.5, [-3.0, -2.0, -2.0, -2.0]),
        (-0.5, [-1.0, -0.0, -0.0, -0.0]),
        (0.49, [0.0, 1.0, 0.0, 0.0]),
        (-0.0, [-0.0; 4]),
        (f64::INFINITY, [f64::INFINITY; 4]),
        (f64::NAN, [f64::NAN; 4]),
    ];
    for (x, expected) in cases {
        for (opcode, result) in [FFloor, FCeil, FTrunc, FNearest].into_iter().zip(expected) {
            assert_same(evaluate(opcode, Type::F64, &[Value::f64(x)]), Value::f64(result), opcode.name());
            let (x, result) = (Value::f32(x as f32), Value::f32(result as f32));
            assert_same(evaluate(opcode, Type::F32, &[x]), result, opcode.name());
        }
    }
}

#[test]
fn fma_rounds_once_and_frem_is_exact() {
    let fma = |x: f64, y: f64, z: f64| evaluate(Opcode::Fma, Type::F64, &[x, y, z].map(Value::f64));
    // (1 + e)(1 - e) - 1 is -e², which rounding the product would lose.
    let e = f64::EPSILON;
    assert_eq!(fma(1.0 + e, 1.0 - e, -1.0), Some(Value::f64(-(e * e))));
    let e = f32::EPSILON;
    let operands = [1.0 + e, 1.0 - e, -1.0].map(Value::f32);
    assert_eq!(evaluate(Opcode::Fma, Type::F32, &operands), Some(Value::f32(-(e * e))));

    let frem = |x: f64, y: f64| evaluate(Opcode::FRem, Type::F64, &[x, y].map(Value::f64));
    for x in -40..=40_i32 {
        for y in [-7, -3, 1, 2, 5, 16_i32] {
            let expected = f64::from(x % y) / 4.0;
            let expected = expected.copysign(f64::from(x));
            let expected = if x == 0 { 0.0 } else { expected };
            assert_eq!(frem(f64::from(x) / 4.0, f64::from(y) / 4.0), Some(Value::f64(expected)), "{x} {y}");
        }
    }
    // The quotient has a thousand bits; the remainder is exact all the same. 2^1023 mod 3 is 2.
    assert_eq!(frem(2_f64.powi(1023), 3.0), Some(Value::f64(2.0)));
    assert_eq!(frem(5.0, f64::INFINITY), Some(Value::f64(5.0)));
    assert!(frem(f64::INFINITY, 3.0).is_some_and(Value::is_nan) && frem(1.0, 0.0).is_some_and(Value::is_nan));
}

#[test]
fn canonical_nan_is_the_positive_quiet_one() {
    let canonical = |value: Value| evaluate(Opcode::FCanonicalise, value.ty(), &[value]);
    let nan = Value::from_bits(Type::F32, 0xffc1_2345);
    assert_eq!(canonical(nan), Some(Value::from_bits(Type::F32, 0x7fc0_0000)));
    let nan = Value::from_bits(Type::F64, 0x7ff0_0000_0000_0001);
    assert_eq!(canonical(nan), Some(Value::from_bits(Type::F64, 0x7ff8_0000_0000_0000)));
    assert_eq!(canonical(Value::f64(-0.0)), Some(Value::f64(-0.0)));
}

#[test]
fn floats_become_integers_toward_zero() {
    for from in [Type::F32, Type::F64] {
        for value in floats(from) {
            let x = if from == Type::F32 { f64::from(value.to_f32()) } else { value.to_f64() };
            for ty in INTS {
                let unsigned = (0, i128::from(ty.mask()), Opcode::FloatToUInt, Opcode::FloatToUIntChecked);
                let half = 1 << (ty.bits() - 1);
                let signed = (-half, half - 1, Opcode::FloatToSInt, Opcode::FloatToSIntChecked);
                for (min, max, saturating, checked) in [signed, unsigned] {
                    // `as i128` saturates far outside of every type's range, and gives zero for NaN.
                    let exact = x as i128;
                    let saturated = Value::new(ty, exact.clamp(min, max) as u128);
                    assert_eq!(evaluate(saturating, ty, &[value]), Some(saturated), "{saturating} {value}");
                    let expected = match () {
                        () if x.is_nan() => Err(RaiseKind::Conversion),
                        () if exact < min || exact > max => Err(RaiseKind::Overflow),
                        () => Ok(saturated),
                    };
                    assert_eq!(
                        evaluate_checked(checked, ty, &[value]),
                        Some(expected),
                        "{checked}.{ty} {value}"
                    );
                }
            }
        }
    }
}

/// A float is the nearest to an integer if no neighbour is nearer, and even if one is as near.
#[test]
fn integers_become_the_nearest_float() {
    for ty in INTS {
        for (a, _) in pairs(ty).iter().step_by(11) {
            for (opcode, is_signed) in [(Opcode::SIntToFloat, true), (Opcode::UIntToFloat, false)] {
                let integer = exact(*a, is_signed);
                let single = evaluate(opcode, Type::F32, &[*a]).expect("has a value").to_f32();
                let double = evaluate(opcode, Type::F64, &[*a]).expect("has a value").to_f64();
                let distance = |x: f64| (x as i128 - integer).unsigned_abs();
                let near = [f64::from(single.next_up()), f64::from(single.next_down())];
                let is_even = single.to_bits() & 1 == 0;
                for other in near.map(distance) {
                    let own = distance(single.into());
                    assert!(own < other || own == other && (is_even || own == 0), "{opcode}.f32 {a}");
                }
                let is_even = double.to_bits() & 1 == 0;
                for other in [double.next_up(), double.next_down()].map(distance) {
                    assert!(distance(double) < other || distance(double) == other && (is_even || other == 0));
                }
            }
        }
    }
}

#[test]
fn conversions_between_integers_keep_what_they_should() {
    for from in INTS {
        for (a, _) in pairs(from).iter().step_by(13) {
            for to in INTS {
                let expect = |opcode, wanted: bool, value: i128| {
                    let expected = wanted.then_some(Value::new(to, value as u128));
                    assert_eq!(evaluate(opcode, to, &[*a]), expected, "{opcode}.{to} {a}");
                };
                expect(Opcode::Wrap, to.bits() < from.bits(), exact(*a, false));
                expect(Opcode::SExt, to.bits() > from.bits(), exact(*a, true));
                expect(Opcode::UExt, to.bits() > from.bits(), exact(*a, false));
            }
        }
    }
    let bits = Value::f32(-1.5);
    assert_eq!(evaluate(Opcode::Bitcast, Type::I32, &[bits]), Some(Value::from_bits(Type::I32, 0xbfc0_0000)));
    assert_eq!(evaluate(Opcode::Bitcast, Type::I64, &[bits]), None);
    assert_eq!(evaluate(Opcode::Bitcast, Type::I64, &[Value::reference(8)]), None);
    assert_eq!(evaluate(Opcode::FPromote, Type::F64, &[bits]), Some(Value::f64(-1.5)));
    assert_eq!(evaluate(Opcode::FDemote, Type::F32, &[Value::f64(1e300)]), Some(Value::f32(f32::INFINITY)));
    let moved = evaluate(Opcode::AddrAdd, Type::Addr, &[Value::addr(8), Value::i64(-16)]);
    assert_eq!(moved, Some(Value::addr(8_u64.wrapping_sub(16))));
}

/// Whatever the row allows has a value, and whatever it does not has none.
#[test]
fn every_pure_computation_has_a_value_at_every_type() {
    for opcode in Opcode::all() {
        let row = opcode.row();
        let is_pure =
            !row.has(Properties::ROOT) && !row.has(Properties::FRAME_ONLY) && opcode != Opcode::Result;
        let types = [Type::Void].into_iter().chain(Type::VALUES);
        for ty in types {
            for operand in Type::VALUES {
                let own = |asked: &Operand| if *asked == Operand::Own { ty } else { operand };
                let mut operands: Vec<Value> =
                    row.operands.iter().map(|asked| Value::from_bits(own(asked), 1)).collect();
                if opcode == Opcode::Select {
                    operands[0] = Value::i32(1);
                } else if opcode == Opcode::AddrAdd {
                    operands = vec![Value::addr(1), Value::i64(1)];
                }
                let value = evaluate(opcode, ty, &operands);
                assert!(value.is_none_or(|value| value.ty() == ty && is_pure));
                let is_allowed = is_pure && !operands.is_empty() && is_well_typed(opcode, ty, &operands);
                assert_eq!(value.is_some(), is_allowed, "{opcode}.{ty} {operands:?}");
            }
        }
    }
}

#[test]
fn values_print_with_their_types() {
    assert_eq!(Value::i8(-1).to_string(), "i8 -1");
    assert_eq!(Value::f64(0.5).to_string(), "f64 0.5");
    assert_eq!(Value::reference(16).to_string(), "ref 0x10");
    assert_eq!(Value::v128(1 << 100).bits(), 1 << 100);
    assert_eq!(Value::new(Type::I8, 0x1ff), Value::i8(-1));
}
