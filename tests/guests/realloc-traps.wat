;; Gives up finding room.
(func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $bytes i32) (result i32)
  (unreachable))
(func $run (result i32) (call $yes))
