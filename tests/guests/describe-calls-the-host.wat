;; Calls the host for ever to say what it offers.
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $run (result i32) (call $yes))
(func (export "clawhold:skill/handler@0.1.0#describe") (result i32) (loop $again (call $log (i32.const 0) (i32.const 528) (i32.const 4)) (br $again)) (unreachable))
