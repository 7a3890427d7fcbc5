;; Answers with neither `ok` nor `err`.
(func $run (result i32) (i32.store8 (i32.const 512) (i32.const 7)) (i32.const 512))
