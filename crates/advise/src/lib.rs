//! Call-site analysis, verdicts and `advice.json`.

pub mod schema;
