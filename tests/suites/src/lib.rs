//! Tests only: see `tests/suite`.
