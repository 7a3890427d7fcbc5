;; Asks for the value of a secret that it may not read, for ever.
;;! [[secrets]]
;;! name = "token"
;;! purpose = "To be asked for"
(import "clawhold:skill/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))
(import "clawhold:skill/secrets@0.1.0" "[method]secret.reveal" (func $reveal (param i32 i32)))
(data (i32.const 2048) "token")
(func $run (result i32)
  (call $get (i32.const 2048) (i32.const 5) (i32.const 3072))
  (loop $again (call $reveal (i32.load (i32.const 3076)) (i32.const 3200)) (br $again))
  (unreachable))
