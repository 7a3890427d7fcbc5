;; Passes a list of a billion empty header fields that it does not have.
;;! [[http]]
;;! host = "peer.example.com"
;;! methods = ["GET"]
;;! paths = ["/*"]
(import "clawhold:skill/http@0.1.0" "send" (func $send (param i32 i32)))
(data (i32.const 3072) "https://peer.example.com/")
(data (i32.const 2052) "\00\0c\00\00\19\00\00\00")
(data (i32.const 2060) "\00\00\00\00\00\ca\9a\3b")
(func $run (result i32) (call $send (i32.const 2048) (i32.const 600)) (call $yes))
