;; Offers more skills than its memory has room for.
(func $run (result i32) (call $yes))
(data (i32.const 2048) "\00\00\00\00\ff\ff\ff\ff")
(func (export "clawhold:skill/handler@0.1.0#describe") (result i32) (i32.const 2048))
