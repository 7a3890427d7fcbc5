;; Passes a string whose end is beyond the last address, and so before its start.
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $run (result i32) (call $log (i32.const 0) (i32.const -16) (i32.const 32)) (call $yes))
