;; Computes for ever, with little fuel.
;;! [limits]
;;! fuel = 1_000_000
(func $run (result i32) (loop $again (br $again)) (unreachable))
