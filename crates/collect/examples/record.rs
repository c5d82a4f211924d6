//! Records a command: `record RECORDER.so FILE.hwr CMD...`, or a process with a dormant recorder:
//! `record --pid PID FILE.hwr`; prints what it took.

use heapwright_collect::{AfterStop, RecordOptions, Stdout, Target, record};

fn main() {
    let mut words = std::env::args_os().skip(1);
    let (mut recorder, mut output) = (words.next(), words.next());
    let mut pid = None;
    if recorder.as_ref().is_some_and(|word| word == "--pid") {
        pid = output.and_then(|word| word.to_str()?.parse().ok());
        (recorder, output) = (Some("".into()), words.next());
    }
    let (Some(recorder), Some(output)) = (recorder, output) else {
        eprintln!("usage: record RECORDER.so FILE.hwr CMD... | record --pid PID FILE.hwr");
        std::process::exit(2);
    };
    let options = RecordOptions {
        target: pid.map_or_else(|| Target::Command(words.collect()), Target::Process),
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
