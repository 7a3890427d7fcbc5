;; Calls the host for ever before it has started.
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $run (result i32) (call $yes))
(func $start (loop $again (call $log (i32.const 0) (i32.const 528) (i32.const 4)) (br $again)))
(start $start)
