;; Offers something if it is given a secret, and nothing otherwise.
;;! [[secrets]]
;;! name = "token"
;;! purpose = "To hold handles"
(import "clawhold:skill/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))
(data (i32.const 2048) "token")
(func $run (result i32) (call $yes))
(func (export "clawhold:skill/handler@0.1.0#describe") (result i32) 
  (call $get (i32.const 2048) (i32.const 5) (i32.const 512))
  (if (i32.load8_u (i32.const 512)) (then (i64.store (i32.const 512) (i64.const 0))))
  (i32.const 512))
