//! Replays a recording on any allocator, thread by thread, and measures it.
