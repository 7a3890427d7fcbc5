;; Passes bytes that are no UTF-8.
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(data (i32.const 2048) "\ff\fe\c0\80")
(func $run (result i32) (call $log (i32.const 0) (i32.const 2048) (i32.const 4)) (call $yes))
