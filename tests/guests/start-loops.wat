;; Never gets done with starting.
(func $run (result i32) (call $yes))
(func $start (loop $again (br $again)))
(start $start)
