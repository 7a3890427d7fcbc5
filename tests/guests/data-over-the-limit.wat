;; Has a memory of one page more than it may.
;;! [limits]
;;! memory_mb = 64
(memory (export "memory") 1025)
(func $run (result i32) (call $yes))
