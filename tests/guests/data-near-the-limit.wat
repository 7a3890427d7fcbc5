;; Has data in the first and in the last bytes of a memory that is just as large as it may be.
;;! [limits]
;;! memory_mb = 64
(memory (export "memory") 1024)
(data (i32.const 67108856) "the last")
(func $run (result i32) (call $number (i32.load8_u (i32.const 67108863))))
