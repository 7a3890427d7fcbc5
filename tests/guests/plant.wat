;; Plants state (input `1`): fills 48 MiB, a table and a global, and changes and drops its own data. Or looks for it (any other
;; input): answers how much of what should be fresh is not.
(memory (export "memory") 2)
(table $table 64 funcref)
(elem declare func $yes)
(global $calls (mut i32) (i32.const 0))
(data (i32.const 2048) "original")
(data $passive "kept")
(func $run (result i32)
  (local $at i32) (local $wrong i32)
  (drop (memory.grow (i32.const 800)))
  (if (i32.eq (i32.load8_u (global.get $input)) (i32.const 49))
    (then
      (memory.fill (i32.const 131072) (i32.const 170) (i32.const 52428800))
      (memory.fill (i32.const 2048) (i32.const 170) (i32.const 8))
      (table.fill $table (i32.const 0) (ref.func $yes) (i32.const 64))
      (global.set $calls (i32.const 1))
      (data.drop $passive)
      (return (call $number (i32.load8_u (i32.const 50000000))))))
  (local.set $at (i32.const 131072))
  (loop $next
    (local.set $wrong (i32.add (local.get $wrong) (i64.ne (i64.load (local.get $at)) (i64.const 0))))
    (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 52559872))))
  (local.set $at (i32.const 0))
  (loop $next
    (local.set $wrong (i32.add (local.get $wrong) (i32.eqz (ref.is_null (table.get $table (local.get $at))))))
    (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 64))))
  (local.set $wrong (i32.add (local.get $wrong) (global.get $calls)))
  (local.set $wrong (i32.add (local.get $wrong) (i64.ne (i64.load (i32.const 2048)) (i64.const 0x6c616e696769726f))))
  ;; Traps if it was dropped.
  (memory.init $passive (i32.const 2048) (i32.const 0) (i32.const 4))
  (call $number (local.get $wrong)))
