;; Passes as many UTF-16 units as have twice 31 bits of bytes, in the encoding that tells by a bit which it is.
;;@ latin1+utf16
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $run (result i32) (call $log (i32.const 0) (i32.const 2048) (i32.const -1)) (call $yes))
