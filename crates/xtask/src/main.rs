//! Automation: demo, test, bench, tidy, dist.

fn main() {}
