;; Has more memories than a slot.
;;@ component
(core module $one (memory 1))
;;@ repeat 40 (core instance (instantiate $one))
