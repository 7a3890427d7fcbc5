;; Sends a request with a method that there is not.
;;! [[http]]
;;! host = "peer.example.com"
;;! methods = ["GET"]
;;! paths = ["/*"]
(import "clawhold:skill/http@0.1.0" "send" (func $send (param i32 i32)))
(data (i32.const 3072) "https://peer.example.com/")
(data (i32.const 2052) "\00\0c\00\00\19\00\00\00")
(func $run (result i32)
  (i32.store8 (i32.const 2048) (i32.const 200))
  (call $send (i32.const 2048) (i32.const 600)) (call $yes))
