;; One component inside of it calls another, so that the engine makes code of its own that knows two memories.
;;@ component
(component $callee
  (core module $m
    (memory (export "room") 1)
    (func (export "make-room") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "take") (param i32 i32)))
  (core instance $i (instantiate $m))
  (func (export "take") (param "bytes" (list u8))
    (canon lift (core func $i "take") (memory (core memory $i "room")) (realloc (core func $i "make-room")))))
(instance $callee (instantiate $callee))
(core module $words (memory (export "room") 1))
(core instance $words (instantiate $words))
(core func $take (canon lower (func $callee "take") (memory (core memory $words "room"))))
(core module $skill
  (import "callee" "take" (func $take (param i32 i32)))
  (func $run (result i32) (call $take (i32.const 1024) (i32.const 4)) (call $yes))
;;@ skill
)
(core instance $main (instantiate $skill (with "callee" (instance (export "take" (func $take))))))
