;; Sends a request that makes the test's network panic, inside of the host.
;;! [[http]]
;;! host = "peer.example.com"
;;! methods = ["GET"]
;;! paths = ["/*"]
(import "clawhold:skill/http@0.1.0" "send" (func $send (param i32 i32)))
(data (i32.const 3072) "https://peer.example.com/panic")
(data (i32.const 2052) "\00\0c\00\00\1e\00\00\00")
(func $run (result i32)
  (drop (memory.grow (i32.const 900)))
  (memory.fill (i32.const 65536) (i32.const 255) (i32.const 58982400))
  (call $send (i32.const 2048) (i32.const 600)) (call $yes))
