;; Logs with a level that there is not.
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $run (result i32) (call $log (i32.const 99) (i32.const 528) (i32.const 4)) (call $yes))
