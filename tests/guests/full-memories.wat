;; Fills every memory of the slot and its tables with what is not zero, and behaves otherwise.
;;@ component
(core module $fill
  (memory 16) (table $table 64 funcref) (elem declare func $start)
  (func $start
    (memory.fill (i32.const 0) (i32.const 170) (i32.const 1048576))
    (table.fill $table (i32.const 0) (ref.func $start) (i32.const 64)))
  (start $start))
;;@ repeat 31 (core instance (instantiate $fill))
