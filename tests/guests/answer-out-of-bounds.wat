;; Answers with a text of 1 GiB that it does not have.
(func $run (result i32) (call $answer (i32.const 0) (i32.const 1073741824)))
