//! Runs a program under the recorder and collects its events into a file.
