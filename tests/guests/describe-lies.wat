;; Offers a skill whose name is 1 GiB of its memory.
(func $run (result i32) (call $yes))
(data (i32.const 2048) "\08\08\00\00\01\00\00\00" "\00\00\00\00\00\00\00\40" "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00")
(func (export "clawhold:skill/handler@0.1.0#describe") (result i32) (i32.const 2048))
