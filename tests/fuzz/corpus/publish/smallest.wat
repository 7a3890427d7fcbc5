;; Behaves.
(func $run (result i32) (call $yes))
