;; Gives up starting.
(func $run (result i32) (call $yes))
(func $start (unreachable))
(start $start)
