;; Takes a thousand table entries after the other, until somebody stops it.
(table $table 1 funcref)
(func $run (result i32)
  (loop $again (drop (table.grow $table (ref.null func) (i32.const 1000))) (br $again)) (unreachable))
