;; Answers with bytes that are no UTF-8.
(data (i32.const 2048) "\22\ff\fe\22")
(func $run (result i32) (call $answer (i32.const 2048) (i32.const 4)))
