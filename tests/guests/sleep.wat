;; Waits for an answer that never comes; and if it is told that none comes, computes for ever.
;;! [[http]]
;;! host = "peer.example.com"
;;! methods = ["GET"]
;;! paths = ["/*"]
;;! [limits]
;;! fuel = 10_000_000_000
;;! timeout_ms = 150
(import "clawhold:skill/http@0.1.0" "send" (func $send (param i32 i32)))
(data (i32.const 3072) "https://peer.example.com/never")
(data (i32.const 2052) "\00\0c\00\00\1e\00\00\00")
(func $run (result i32)
  (call $send (i32.const 2048) (i32.const 600))
  (loop $again (br $again)) (unreachable))
