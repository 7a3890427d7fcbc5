;; Calls the host while the host waits for room.
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $bytes i32) (result i32)
  (call $log (i32.const 0) (i32.const 528) (i32.const 4)) (i32.const 70000))
(func $run (result i32) (call $yes))
