;; Drops a resource of its own whose destructor traps.
;;@ component
(core module $resource (func (export "destroy") (param i32) (unreachable)))
(core instance $resource (instantiate $resource))
(type $thing (resource (rep i32) (dtor (core func $resource "destroy"))))
(core func $new (canon resource.new $thing))
(core func $drop (canon resource.drop $thing))
(core module $skill
  (import "thing" "new" (func $new (param i32) (result i32)))
  (import "thing" "drop" (func $drop (param i32)))
  (func $run (result i32) (call $drop (call $new (i32.const 7))) (call $yes))
;;@ skill
)
(core instance $main (instantiate $skill
  (with "thing" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
