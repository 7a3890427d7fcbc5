;; Drops a handle twice.
;;! [[secrets]]
;;! name = "token"
;;! purpose = "To hold handles"
(import "clawhold:skill/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))
(import "clawhold:skill/secrets@0.1.0" "[resource-drop]secret" (func $drop (param i32)))
(data (i32.const 2048) "token")
(func $run (result i32)
  (call $get (i32.const 2048) (i32.const 5) (i32.const 512))
  (call $drop (i32.load (i32.const 516)))
  (call $drop (i32.load (i32.const 516))) (call $yes))
