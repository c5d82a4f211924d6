/* An object that is no allocator. */
int heapwright_test_nothing(void) { return 0; }
