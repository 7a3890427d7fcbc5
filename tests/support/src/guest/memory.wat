  ;; Two pages: the first holds what is fixed, the second is where the heap begins.
  (memory (export "memory") 2)
