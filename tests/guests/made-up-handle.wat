;; Uses a handle that it was never given.
;;! [[secrets]]
;;! name = "token"
;;! purpose = "To hold handles"
(import "clawhold:skill/secrets@0.1.0" "[method]secret.reveal" (func $reveal (param i32 i32)))
(func $run (result i32) (call $reveal (i32.const 12345) (i32.const 512)) (call $yes))
