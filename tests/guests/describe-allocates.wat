;; Takes memory for ever to say what it offers.
(func $run (result i32) (call $yes))
(func (export "clawhold:skill/handler@0.1.0#describe") (result i32) (loop $again (drop (memory.grow (i32.const 16))) (br $again)) (unreachable))
