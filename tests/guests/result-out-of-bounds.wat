;; Wants a host function's answer where its memory ends.
;;! [[secrets]]
;;! name = "token"
;;! purpose = "To hold handles"
(import "clawhold:skill/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))
(func $run (result i32) (call $get (i32.const 528) (i32.const 4) (i32.const 131068)) (call $yes))
