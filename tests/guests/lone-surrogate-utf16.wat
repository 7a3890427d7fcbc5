;; Passes half a surrogate pair in UTF-16.
;;@ utf16
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(data (i32.const 2048) "\00\d8\41\00")
(func $run (result i32) (call $log (i32.const 0) (i32.const 2048) (i32.const 2)) (call $yes))
