;; Has thirty memories that each take two MiB as soon as they can, in as many instances: 60 MiB, under a cap of 32.
;; Its `describe` is never reached.
;;@ component
;;! [limits]
;;! memory_mb = 32
(core module $hoard (memory 32) (func $start (memory.fill (i32.const 0) (i32.const 255) (i32.const 2097152))) (start $start))
;;@ repeat 30 (core instance (instantiate $hoard))
