;; Traps when it should free its answer.
(func $run (result i32) (call $yes))
(func (export "cabi_post_clawhold:skill/handler@0.1.0#handle") (param i32) (unreachable))
