//! Models, operation programs and C test programs for Heapwright's tests.
