//! libheapwright_recorder.so: records every allocation of a program.
