;; Passes a list whose size in bytes is more than 32 bits can say.
;;! [[http]]
;;! host = "peer.example.com"
;;! methods = ["GET"]
;;! paths = ["/*"]
(import "clawhold:skill/http@0.1.0" "send" (func $send (param i32 i32)))
(data (i32.const 3072) "https://peer.example.com/")
(data (i32.const 2052) "\00\0c\00\00\19\00\00\00")
(data (i32.const 2060) "\00\08\00\00\01\00\00\10")
(func $run (result i32) (call $send (i32.const 2048) (i32.const 600)) (call $yes))
