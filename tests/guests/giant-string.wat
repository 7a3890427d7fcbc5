;; Passes a string of 1 GiB that it does not have.
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $run (result i32) (call $log (i32.const 0) (i32.const 0) (i32.const 1073741824)) (call $yes))
