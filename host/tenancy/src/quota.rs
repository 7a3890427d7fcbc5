//! What a tenant may use: the table of dimensions, where each value comes from, and the arithmetic of using it.
//!
//! The effective value of a dimension is what `tenant set-quota` stored for the tenant, else what the configuration says of the
//! tenant, of its tier, of everybody, else the built-in one; and never above the operator's ceiling.
//!
//! What this will not do: keep time, or know of other hosts. That is the limiter.

mod account;
mod allowance;
mod dimension;
mod level;
mod rules;

pub use account::{Account, Amounts, Lease, Over};
pub use allowance::{Allowance, Taken};
pub use dimension::{DIMENSIONS, Dimension, Entry, Kind, RATE_COUNT, RATES, Row, TABLE, Values};
pub use level::{BACK_US, Level, WINDOW_US};
pub use rules::{Quota, Quotas, Source, Tier};
