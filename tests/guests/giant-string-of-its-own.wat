;; Passes a string of 60 MiB that it has.
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $run (result i32)
  (drop (memory.grow (i32.const 970)))
  (call $log (i32.const 0) (i32.const 65536) (i32.const 62914560)) (call $yes))
