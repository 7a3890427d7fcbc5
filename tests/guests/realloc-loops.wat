;; Never gets done with finding room for its input.
;;! [limits]
;;! fuel = 1_000_000
(func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $bytes i32) (result i32)
  (loop $again (br $again)) (unreachable))
(func $run (result i32) (call $yes))
