//! Addresses of a recording to functions, files and lines, out of process.
