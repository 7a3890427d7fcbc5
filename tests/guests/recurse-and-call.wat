;; Calls itself until its stack is used up, and on the way, at every thousandth step, a host function that recurses too:
;; it reads JSON that is nested as deep as it may be.
;;! [audit]
;;! actions = ["guest.done"]
(import "clawhold:skill/audit@0.1.0" "record"
  (func $record (param i32 i32 i32 i32 i32 i32 i32 i32)))
(data (i32.const 2048) "guest.done" "thing")
(data (i32.const 3072) "{\"a\":")
(global $depth (mut i32) (i32.const 0))
(func $run (result i32)
  (memory.fill (i32.const 3077) (i32.const 91) (i32.const 120))
  (memory.fill (i32.const 3197) (i32.const 93) (i32.const 120))
  (i32.store8 (i32.const 3317) (i32.const 125))
  (call $deeper))
(func $deeper (result i32)
  (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
  (if (i32.eqz (i32.rem_u (global.get $depth) (i32.const 1000)))
    (then (call $record (i32.const 2048) (i32.const 10) (i32.const 2058) (i32.const 5) (i32.const 0)
      (i32.const 3072) (i32.const 246) (i32.const 512))))
  (i32.add (call $deeper) (i32.const 1)))
