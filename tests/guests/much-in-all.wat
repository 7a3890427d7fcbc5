;; Passes half a MiB to the host again and again: little each time, and much in all.
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $run (result i32)
  (drop (memory.grow (i32.const 10)))
  (loop $again (call $log (i32.const 0) (i32.const 65536) (i32.const 524288)) (br $again)) (unreachable))
