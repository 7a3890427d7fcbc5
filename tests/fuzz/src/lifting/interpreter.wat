;; Does what its input says: sets memory, calls host functions with any numbers, moves memory as it likes when the host
;; asks for room, and answers from any address. The input is a JSON string, two letters of `a` to `p` for each byte.
;; Page 1 is for what a program sets, the heap begins at page 2.
;;! [limits]
;;! fuel = 4_000_000
;;! memory_mb = 4
;;! host_call_mb = 1
;;! [[secrets]]
;;! name = "token"
;;! purpose = "To be read"
;;! reveal = true
;;! [[secrets]]
;;! name = "login"
;;! purpose = "To be put on requests"
;;! [[http]]
;;! host = "peer.example.com"
;;! methods = ["GET", "POST"]
;;! paths = ["/*"]
;;! credentials = ["token", "login"]
;;! [audit]
;;! actions = ["guest.done"]
(import "clawhold:skill/audit@0.1.0" "log" (func $log (param i32 i32 i32)))
(import "clawhold:skill/audit@0.1.0" "record" (func $record (param i32 i32 i32 i32 i32 i32 i32 i32)))
(import "clawhold:skill/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))
(import "clawhold:skill/secrets@0.1.0" "[method]secret.field" (func $field (param i32 i32 i32 i32)))
(import "clawhold:skill/secrets@0.1.0" "[method]secret.reveal" (func $reveal (param i32 i32)))
(import "clawhold:skill/secrets@0.1.0" "[method]secret.hmac-sha256" (func $hmac (param i32 i32 i32 i32)))
(import "clawhold:skill/secrets@0.1.0" "[resource-drop]secret" (func $drop (param i32)))
(import "clawhold:skill/http@0.1.0" "send" (func $send (param i32 i32)))
(memory (export "memory") 4)
(global $at (mut i32) (i32.const 0))
(global $mode (mut i32) (i32.const 0))
(global $value (mut i32) (i32.const 0))
(global $after (mut i32) (i32.const 0))
(global $post (mut i32) (i32.const 0))
(global $heap (mut i32) (i32.const 131072))
(func $nibble (result i32)
  (local $letter i32)
  (local.set $letter (i32.load8_u (global.get $at)))
  (global.set $at (i32.add (global.get $at) (i32.const STRIDE)))
  (i32.and (i32.sub (local.get $letter) (i32.const 97)) (i32.const 15)))
(func $byte (result i32)
  (i32.or (i32.shl (call $nibble) (i32.const 4)) (call $nibble)))
(func $word (result i32)
  (i32.or (i32.or (call $byte) (i32.shl (call $byte) (i32.const 8)))
          (i32.or (i32.shl (call $byte) (i32.const 16)) (i32.shl (call $byte) (i32.const 24)))))
;; A number, or the number at an address.
(func $argument (result i32)
  (if (result i32) (call $byte) (then (i32.load (call $word))) (else (call $word))))
(func $bump (param $bytes i32) (param $align i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
                          (i32.sub (i32.const 0) (local.get $align))))
  (global.set $heap (i32.add (local.get $at) (local.get $bytes)))
  (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
    (then (drop (memory.grow
      (i32.sub (i32.shr_u (i32.add (global.get $heap) (i32.const 65535)) (i32.const 16)) (memory.size))))))
  (local.get $at))
(func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $bytes i32) (result i32)
  (local $room i32)
  (local.set $room (call $bump (local.get $bytes) (local.get $align)))
  (if (i32.eqz (global.get $mode)) (then (return (local.get $room))))
  (if (global.get $after)
    (then (global.set $after (i32.sub (global.get $after) (i32.const 1))) (return (local.get $room))))
  (block $same (block $grow (block $call (block $spin (block $trap (block $beside (block $fixed
    (br_table $fixed $fixed $beside $trap $spin $call $grow $same (global.get $mode)))
    (return (global.get $value)))
    (return (i32.add (local.get $room) (global.get $value))))
    (unreachable))
    (loop $again (br $again)))
    (call $log (i32.const 0) (i32.const 528) (i32.const 4)) (return (local.get $room)))
    (drop (memory.grow (global.get $value))) (return (local.get $room)))
  (local.get $old))
(func $call (param $which i32) (param $times i32)
  (local $a i32) (local $b i32) (local $c i32) (local $d i32) (local $e i32) (local $f i32) (local $g i32) (local $h i32)
  (local.set $a (call $argument)) (local.set $b (call $argument)) (local.set $c (call $argument))
  (local.set $d (call $argument)) (local.set $e (call $argument)) (local.set $f (call $argument))
  (local.set $g (call $argument)) (local.set $h (call $argument))
  (loop $again
    (if (i32.eqz (local.get $times)) (then (return)))
    (local.set $times (i32.sub (local.get $times) (i32.const 1)))
    (block $send (block $drop (block $hmac (block $reveal (block $field (block $get (block $record (block $log
      (br_table $log $record $get $field $reveal $hmac $drop $send (local.get $which)))
      (call $log (local.get $a) (local.get $b) (local.get $c)) (br $again))
      (call $record (local.get $a) (local.get $b) (local.get $c) (local.get $d) (local.get $e) (local.get $f)
        (local.get $g) (local.get $h)) (br $again))
      (call $get (local.get $a) (local.get $b) (local.get $c)) (br $again))
      (call $field (local.get $a) (local.get $b) (local.get $c) (local.get $d)) (br $again))
      (call $reveal (local.get $a) (local.get $b)) (br $again))
      (call $hmac (local.get $a) (local.get $b) (local.get $c) (local.get $d)) (br $again))
      (call $drop (local.get $a)) (br $again))
    (call $send (local.get $a) (local.get $b)) (br $again)))
(func $store (param $at i32) (param $bytes i32)
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $bytes)))
    (i32.store8 (local.get $at) (call $byte))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (local.set $bytes (i32.sub (local.get $bytes) (i32.const 1)))
    (br $next))))
(func $run (result i32)
  (global.set $at (i32.add (global.get $input) (i32.const STRIDE)))
  (loop $next
    (block $post (block $grow (block $realloc (block $call (block $fill (block $copy (block $store (block $answer
      (br_table $answer $store $copy $fill $call $realloc $grow $post (call $byte)))
      (return (call $word)))
      (call $store (call $word) (call $word)) (br $next))
      (memory.copy (call $word) (call $word) (call $word)) (br $next))
      (memory.fill (call $word) (call $byte) (call $word)) (br $next))
      (call $call (call $byte) (call $word)) (br $next))
      (global.set $mode (call $byte)) (global.set $value (call $word)) (global.set $after (call $word)) (br $next))
      (drop (memory.grow (call $word))) (br $next))
    (global.set $post (call $byte)) (br $next))
  (unreachable))
(func (export "cabi_post_clawhold:skill/handler@0.1.0#handle") (param i32)
  (block $call (block $spin (block $trap (block $nothing
    (br_table $nothing $trap $spin $call (global.get $post)))
    (return))
    (unreachable))
    (loop $again (br $again)))
  (call $log (i32.const 0) (i32.const 528) (i32.const 4)))
