;; Calls the host when it should free its answer.
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $run (result i32) (call $yes))
(func (export "cabi_post_clawhold:skill/handler@0.1.0#handle") (param i32) (call $log (i32.const 0) (i32.const 528) (i32.const 4)))
