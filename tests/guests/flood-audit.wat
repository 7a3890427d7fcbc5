;; Writes audit entries as large as may be, until somebody stops it.
;;! [audit]
;;! actions = ["guest.done"]
(import "clawhold:skill/audit@0.1.0" "record"
  (func $record (param i32 i32 i32 i32 i32 i32 i32 i32)))
(data (i32.const 2048) "guest.done" "thing")
(func $run (result i32)
  (memory.fill (i32.const 4096) (i32.const 32) (i32.const 4096))
  (i32.store16 (i32.const 4096) (i32.const 0x7d7b))
  (loop $again
    (call $record (i32.const 2048) (i32.const 10) (i32.const 2058) (i32.const 5) (i32.const 0)
      (i32.const 4096) (i32.const 4096) (i32.const 512))
    (br $again))
  (unreachable))
