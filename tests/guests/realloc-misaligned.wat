;; Has room for UTF-16 at odd addresses.
;;@ utf16
(func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $bytes i32) (result i32)
  (i32.const 70001))
(func $run (result i32) (call $yes))
