;; Takes a page after the other and writes into each, until somebody stops it.
(func $run (result i32)
  (local $page i32)
  (loop $again
    (local.set $page (memory.grow (i32.const 1)))
    (i32.store (i32.mul (local.get $page) (i32.const 65536)) (i32.const -1))
    (br $again))
  (unreachable))
