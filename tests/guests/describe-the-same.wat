;; Offers a million skills without a name: its memory is full of zeroes, which read as such.
(func $run (result i32) (call $yes))
(data (i32.const 2048) "\00\00\01\00\40\42\0f\00")
(func (export "clawhold:skill/handler@0.1.0#describe") (result i32) (drop (memory.grow (i32.const 900))) (i32.const 2048))
