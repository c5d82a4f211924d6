//! Records a command: `record RECORDER.so FILE.hwr CMD...`; prints what it took.

use heapwright_collect::{AfterStop, RecordOptions, Stdout, Target, record};

fn main() {
    let mut words = std::env::args_os().skip(1);
    let (Some(recorder), Some(output)) = (words.next(), words.next()) else {
        eprintln!("usage: record RECORDER.so FILE.hwr CMD...");
        std::process::exit(2);
    };
    let options = RecordOptions {
        target: Target::Command(words.collect()),
        output: output.into(),
        recorder: recorder.into(),
        sample_bytes: std::env::var("SAMPLE").ok().and_then(|n| n.parse().ok()).unwrap_or(0),
        time_limit: None,
        bytes_max: None,
        load: None,
        load_delay: None,
        redact: false,
        foreground: false,
        stdout: Stdout::Inherit,
        after_stop: AfterStop::Wait,
        heapwright_version: String::new(),
        machine: String::new(),
        progress: None,
    };
    match record(options) {
        Ok(outcome) => eprintln!("{outcome:#?}"),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(error.exit_status());
        }
    }
}
