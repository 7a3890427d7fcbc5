;; Sends a request with a thousand empty header fields, and answers `true` if it is refused as such.
;;! [[http]]
;;! host = "peer.example.com"
;;! methods = ["GET"]
;;! paths = ["/*"]
(import "clawhold:skill/http@0.1.0" "send" (func $send (param i32 i32)))
(data (i32.const 3072) "https://peer.example.com/")
(data (i32.const 2052) "\00\0c\00\00\19\00\00\00")
(data (i32.const 2060) "\00\00\10\00\e8\03\00\00")
(func $run (result i32)
  (drop (memory.grow (i32.const 900)))
  (call $send (i32.const 2048) (i32.const 600))
  ;; `err` with the rule `invalid-request`.
  (if (i32.or (i32.ne (i32.load8_u (i32.const 600)) (i32.const 1)) (i32.load8_u (i32.const 604))) (then (unreachable)))
  (call $yes))
