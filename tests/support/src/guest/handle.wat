  ;; The context and the input, flattened: the guest's `$run` finds the input in two globals.
  (global $input (mut i32) (i32.const 0))
  (global $input_bytes (mut i32) (i32.const 0))
  (func (export "clawhold:skill/handler@0.1.0#handle")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i64 i32 i32 i32 i32) (result i32)
    (global.set $input (local.get 14))
    (global.set $input_bytes (local.get 15))
    (call $run))
  ;; `ok(text)`, at 512.
  (func $answer (param $at i32) (param $bytes i32) (result i32)
    (i32.store8 (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (local.get $at))
    (i32.store (i32.const 520) (local.get $bytes))
    (i32.const 512))
  ;; `ok("true")`, or what else is at 528.
  (data (i32.const 528) "true")
  (func $yes (result i32) (call $answer (i32.const 528) (i32.const 4)))
  ;; `ok(n)` in decimal, written backwards from 560.
  (func $number (param $n i32) (result i32)
    (local $at i32)
    (local.set $at (i32.const 560))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
      (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
      (br_if $digit (local.get $n)))
    (call $answer (local.get $at) (i32.sub (i32.const 560) (local.get $at))))
