;; Answers with 10,000 nested arrays.
(func $run (result i32)
  (memory.fill (i32.const 100000) (i32.const 91) (i32.const 10000))
  (memory.fill (i32.const 110000) (i32.const 93) (i32.const 10000))
  (call $answer (i32.const 100000) (i32.const 20000)))
