;; Passes half a surrogate pair, as WTF-8 writes it.
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(data (i32.const 2048) "\ed\a0\80")
(func $run (result i32) (call $log (i32.const 0) (i32.const 2048) (i32.const 3)) (call $yes))
