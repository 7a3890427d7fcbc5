;; Speaks UTF-16 and behaves: its answer is the input, which the host has written and reads again.
;;@ utf16
(func $run (result i32) (call $answer (global.get $input) (global.get $input_bytes)))
