;; Makes resources of its own and keeps them, until somebody stops it.
;;@ component
(type $thing (resource (rep i32)))
(core func $new (canon resource.new $thing))
(core module $skill
  (import "thing" "new" (func $new (param i32) (result i32)))
  (func $run (result i32) (loop $again (drop (call $new (i32.const 7))) (br $again)) (unreachable))
;;@ skill
)
(core instance $main (instantiate $skill (with "thing" (instance (export "new" (func $new))))))
