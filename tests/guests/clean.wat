;; Behaves. Takes every memory of a slot and most of its tables, and traps unless all of them are as new; then answers
;; `true`. Every hostile case asks it for what the case has left behind.
;;@ component
;;! [limits]
;;! fuel = 200_000_000
(core module $look
  (memory 16)
  (table $table 64 funcref)
  (global $fresh (mut i32) (i32.const 7))
  (func $start
    (local $at i32) (local $seen i64)
    (loop $next
      (local.set $seen (i64.or (local.get $seen) (i64.or
        (i64.or (i64.load (local.get $at)) (i64.load offset=8 (local.get $at)))
        (i64.or (i64.load offset=16 (local.get $at)) (i64.load offset=24 (local.get $at))))))
      (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 32))) (i32.const 1048576))))
    (if (i64.ne (local.get $seen) (i64.const 0)) (then (unreachable)))
    (local.set $at (i32.const 0))
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $table (local.get $at)))) (then (unreachable)))
      (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 64))))
    (if (i32.ne (global.get $fresh) (i32.const 7)) (then (unreachable)))
    (global.set $fresh (i32.const 8)))
  (start $start))
;;@ repeat 31 (core instance (instantiate $look))
