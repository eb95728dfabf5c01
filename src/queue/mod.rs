//! The durable queue. Knows nothing of SMTP. `store` is the seam that the rest of the house sees.

pub mod embedded;
pub mod store;
