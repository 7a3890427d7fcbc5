;; Asks for a table of a hundred million entries.
(table $table 1 funcref)
(func $run (result i32) (call $number (table.grow $table (ref.null func) (i32.const 100_000_000))))
