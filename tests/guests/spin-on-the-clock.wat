;; Computes for ever, with more fuel than time.
;;! [limits]
;;! fuel = 10_000_000_000
;;! timeout_ms = 150
(func $run (result i32) (loop $again (br $again)) (unreachable))
