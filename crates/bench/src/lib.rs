//! Benchmarks of Heapwright beside its peers.
