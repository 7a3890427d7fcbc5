;; Takes a page after the other and fills each, until somebody stops it.
(func $run (result i32)
  (local $page i32)
  (loop $again
    (local.set $page (memory.grow (i32.const 1)))
    (memory.fill (i32.mul (local.get $page) (i32.const 65536)) (i32.const 255) (i32.const 65536))
    (br $again))
  (unreachable))
