;; Passes a UTF-16 string at an odd address.
;;@ utf16
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $run (result i32) (call $log (i32.const 0) (i32.const 2049) (i32.const 2)) (call $yes))
