;; Gives up saying what it offers.
(func $run (result i32) (call $yes))
(func (export "clawhold:skill/handler@0.1.0#describe") (result i32) (unreachable))
