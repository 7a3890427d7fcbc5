;; Never gets done with freeing its answer.
;;! [limits]
;;! fuel = 1_000_000
(func $run (result i32) (call $yes))
(func (export "cabi_post_clawhold:skill/handler@0.1.0#handle") (param i32) (loop $again (br $again)))
