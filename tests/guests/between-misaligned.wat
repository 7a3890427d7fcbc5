;; Passes a UTF-16 string at an odd address to a component that wants UTF-8.
;;@ component
(component $callee
  (core module $m
    (memory (export "room") 1)
    (func (export "make-room") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "take") (param i32 i32)))
  (core instance $i (instantiate $m))
  (func (export "take") (param "text" string)
    (canon lift (core func $i "take") (memory (core memory $i "room")) (realloc (core func $i "make-room"))
      string-encoding=utf8)))
(component $caller
  (import "take" (func $take (param "text" string)))
  (core module $words (memory (export "room") 1))
  (core instance $words (instantiate $words))
  (core func $lowered (canon lower (func $take) (memory (core memory $words "room")) string-encoding=utf16))
  (core module $m
    (import "callee" "take" (func $take (param i32 i32)))
    (func $start (call $take (i32.const 1) (i32.const 4)))
    (start $start))
  (core instance (instantiate $m (with "callee" (instance (export "take" (func $lowered)))))))
(instance $callee (instantiate $callee))
(instance $caller (instantiate $caller (with "take" (func $callee "take"))))
