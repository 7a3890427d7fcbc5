;; Calls itself through the host's API: its input is the address of its own skill, quoted. Answers `true` when the call it made
;; was answered, whatever the answer.
;;! [[secrets]]
;;! name = "token"
;;! purpose = "To call itself"
;;! [[http]]
;;! host_setting = "origin"
;;! methods = ["POST"]
;;! paths = ["/v1/*"]
;;! credentials = ["token"]
;;! [limits]
;;! timeout_ms = 3000
(import "clawhold:skill/http@0.1.0" "send" (func $send (param i32 i32)))
(import "clawhold:skill/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))
(data (i32.const 3072) "token")
(func $run (result i32)
  (call $get (i32.const 3072) (i32.const 5) (i32.const 3088))
  ;; POST to the input without its quotes, with the input as the body and the token as credential.
  (i32.store8 (i32.const 2048) (i32.const 2))
  (i32.store (i32.const 2052) (i32.add (global.get $input) (i32.const 1)))
  (i32.store (i32.const 2056) (i32.sub (global.get $input_bytes) (i32.const 2)))
  (i32.store8 (i32.const 2068) (i32.const 1))
  (i32.store (i32.const 2072) (global.get $input))
  (i32.store (i32.const 2076) (global.get $input_bytes))
  (i32.store8 (i32.const 2088) (i32.const 1))
  (i32.store (i32.const 2096) (i32.load (i32.const 3092)))
  (call $send (i32.const 2048) (i32.const 3200))
  (if (i32.load8_u (i32.const 3200)) (then (unreachable)))
  (call $number (i32.load16_u (i32.const 3204))))
