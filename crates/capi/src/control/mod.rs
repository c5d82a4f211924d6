//! jemalloc's control interface, `mallctl` and its family, over any allocator.
//!
//! Programs that are linked with libjemalloc (redis-server, BIND, MariaDB) take their blocks from
//! the preloaded allocator but would ask libjemalloc for figures and purges, which then speak of
//! nothing. So the names that such programs ask are answered here, with this allocator's figures;
//! what it does not have is `ENOENT`, as in a jemalloc built without it.
//!
//! There is one arena, number 0. Source: jemalloc(3), "MALLCTL NAMESPACE" and "RETURN VALUES".
//!
//! # Not here
//! jemalloc's options (`MALLOC_CONF`): they are read by nobody. The `opt.*` names tell what holds.

mod answer;
mod names;
mod print;

pub use answer::{mallctl, mallctlbymib, mallctlnametomib};
pub use print::{WriteText, malloc_stats_print};
