;; Answers with half a surrogate pair, as WTF-8 writes it.
(data (i32.const 2048) "\22\ed\a0\80\22")
(func $run (result i32) (call $answer (i32.const 2048) (i32.const 5)))
