;; Asks for a table of four billion entries.
(table $table 1 funcref)
(func $run (result i32) (call $number (table.grow $table (ref.null func) (i32.const -2))))
