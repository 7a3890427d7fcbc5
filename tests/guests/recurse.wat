;; Calls itself until its stack is used up.
(func $run (result i32) (i32.add (call $run) (i32.const 1)))
