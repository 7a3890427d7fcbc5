  ;; Hands out ever higher addresses and frees nothing: an instance serves one call.
  (global $heap (mut i32) (i32.const 65536))
  (func $alloc (param $bytes i32) (param $align i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.and (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
               (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $at) (local.get $bytes)))
    (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
      (then
        (drop (memory.grow
          (i32.sub (i32.shr_u (i32.add (global.get $heap) (i32.const 65535)) (i32.const 16)) (memory.size))))))
    (local.get $at))
  (func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $bytes i32) (result i32)
    (local $at i32)
    (local.set $at (call $alloc (local.get $bytes) (local.get $align)))
    (memory.copy (local.get $at) (local.get $old)
      (select (local.get $had) (local.get $bytes) (i32.lt_u (local.get $had) (local.get $bytes))))
    (local.get $at))
