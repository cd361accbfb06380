;; Functions to call: dagwood run --invoke add examples/numbers.wat 2 -3
(module
  (func $add (export "add") (param $a i32) (param $b i32) (result i32)
    (i32.add (local.get $a) (local.get $b)))

  ;; Slow on purpose: the number of calls grows like the result.
  (func $fib (export "fib") (param $n i32) (result i64)
    (if (result i64) (i32.lt_u (local.get $n) (i32.const 2))
      (then (i64.extend_i32_u (local.get $n)))
      (else
        (i64.add
          (call $fib (i32.sub (local.get $n) (i32.const 1)))
          (call $fib (i32.sub (local.get $n) (i32.const 2)))))))

  (func $divide (export "divide") (param $a i32) (param $b i32) (result i32)
    (i32.div_s (local.get $a) (local.get $b)))

  ;; Traps: nothing can be divided by zero.
  (func (export "trap") (result i32)
    (call $divide (i32.const 1) (i32.const 0)))

  ;; Never ends by itself.
  (func $spin (export "spin")
    (loop $again (br $again)))

  (func (export "answer") (result i32 f64)
    (i32.const 42)
    (f64.const 0.5)))
