;; Gets handles and keeps them, until somebody stops it.
;;! [[secrets]]
;;! name = "token"
;;! purpose = "To hold handles"
(import "clawhold:skill/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))
(data (i32.const 2048) "token")
(func $run (result i32)
  (loop $again (call $get (i32.const 2048) (i32.const 5) (i32.const 512)) (br $again)) (unreachable))
