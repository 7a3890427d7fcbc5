;; Answers with a kind of error that there is not.
(func $run (result i32)
  (i32.store8 (i32.const 512) (i32.const 1)) (i32.store8 (i32.const 516) (i32.const 200)) (i32.const 512))
