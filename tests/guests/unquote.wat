;; Answers with what stands between the quotes of its input, so that a test can have any text as output.
(func $run (result i32)
  (call $answer (i32.add (global.get $input) (i32.const 1)) (i32.sub (global.get $input_bytes) (i32.const 2))))
