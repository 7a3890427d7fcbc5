;; Sends a request with three million empty header fields: its memory is full of zeroes, which read as such.
;;! [[http]]
;;! host = "peer.example.com"
;;! methods = ["GET"]
;;! paths = ["/*"]
(import "clawhold:skill/http@0.1.0" "send" (func $send (param i32 i32)))
(data (i32.const 3072) "https://peer.example.com/")
(data (i32.const 2052) "\00\0c\00\00\19\00\00\00")
(data (i32.const 2060) "\00\00\10\00\c0\c6\2d\00")
(func $run (result i32)
  (drop (memory.grow (i32.const 900)))
  (call $send (i32.const 2048) (i32.const 600)) (call $yes))
