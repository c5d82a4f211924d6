//! Real programs of this machine as workloads, with inputs made for them.

use super::measure::{Runnable, Used};
use super::programs::Tools;
use super::workloads::Real;
use crate::inputs;
use crate::programs::{find, said, write};
use heapwright_compare::Subject;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A script that grows strings, arrays and tables of objects and throws them away in waves.
const PERL_SCRIPT: &str = r#"
my ($rounds, $sum, %kept) = (shift, 0);
for my $round (1 .. $rounds) {
    my @rows = map { { id => $_, name => "user $_", tags => [map { "t$_" } 1 .. $_ % 5] } } 1 .. 2000;
    my %by;
    push @{$by{$_->{name} =~ s/\d$//r}}, $_ for @rows;
    for my $key (sort keys %by) { $sum += @{$by{$key}}; $kept{"$key " . $round % 5} = $by{$key}[0]; }
    my $text = join ',', map { "$_->{id}:$_->{name}:@{$_->{tags}}" } @rows;
    $sum += length($text) + scalar(split /,/, $text);
}
print "$sum ", scalar(keys %kept), "\n";
"#;

/// `real` with `units` of work, its input written into the tools' directory.
///
/// # Errors
/// What is missing here.
pub(super) fn runnable(real: Real, units: u32, tools: &Tools) -> Result<Runnable, String> {
    let plain = |exe: PathBuf, arguments: Vec<OsString>| Runnable {
        exe,
        arguments,
        environment: Vec::new(),
    };
    match real {
        Real::Perl => {
            let script = tools.file("work.pl");
            write(&script, PERL_SCRIPT)?;
            Ok(plain(find("perl")?, vec![script.into(), units.to_string().into()]))
        }
        Real::Python => {
            // The command may be a script that starts the interpreter.
            let exe =
                said(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))?;
            let script = tools.file("work.py");
            write(&script, &inputs::python_script(units))?;
            Ok(Runnable {
                environment: vec![("PYTHONMALLOC", "malloc"), ("PYTHONHASHSEED", "1")],
                ..plain(exe.into(), vec![script.into()])
            })
        }
        Real::Cc1plus => {
            let exe = PathBuf::from(said(Command::new("g++").arg("-print-prog-name=cc1plus"))?);
            if !exe.is_absolute() {
                return Err("g++ has no cc1plus".into());
            }
            let (source, preprocessed) = (tools.file("big.cpp"), tools.file("big.ii"));
            write(&source, &inputs::cpp_file(units))?;
            said(Command::new("g++").arg("-E").arg(&source).arg("-o").arg(&preprocessed))?;
            let mut arguments: Vec<OsString> = vec!["-quiet".into(), "-fpreprocessed".into()];
            arguments.extend([preprocessed.into(), "-O1".into(), "-o".into(), "/dev/null".into()]);
            Ok(plain(exe, arguments))
        }
        Real::Sqlite => {
            let script = tools.file("rows.sql");
            write(&script, &inputs::sql_script(units * 1000))?;
            let read = format!(".read {}", script.display());
            Ok(plain(find("sqlite3")?, vec![":memory:".into(), read.into()]))
        }
        Real::Redis => {
            find("redis-benchmark")?;
            let socket = tools.file("redis.sock");
            let port = free_port()?.to_string();
            let words = ["--port", &port, "--save", "", "--appendonly", "no", "--unixsocket"];
            let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
            arguments.push(socket.into());
            Ok(plain(find("redis-server")?, arguments))
        }
    }
}

/// Runs redis-server under `subject` and its benchmark against it: wall time is the client's,
/// the rest the server's.
///
/// Under the system's allocator the C library itself is preloaded, since Debian's redis-server
/// is linked with an allocator of its own.
///
/// # Errors
/// A sentence when either fails.
pub(super) fn redis(
    server: &Runnable,
    units: u32,
    subject: &Subject,
    tools: &Tools,
) -> Result<Used, String> {
    let mut command = server.command("time", subject, tools);
    if subject.is_system() {
        let libc = libc_path().ok_or("libc.so.6 is not mapped here")?;
        command = Command::new(tools.program("measure"));
        command.arg("time").arg(libc).arg(tools.file("out")).arg(&server.exe);
        command.args(&server.arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::null());
    }
    let failed = |error: std::io::Error| format!("redis-server: {error}");
    let socket = tools.file("redis.sock");
    let _ = fs::remove_file(&socket);
    let mut child = command.spawn().map_err(failed)?;
    let begun = Instant::now();
    while !socket.exists() {
        if begun.elapsed() > Duration::from_secs(20) {
            // It may have ended already.
            let _ = child.kill();
            return Err("redis-server does not listen".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let client = client(units, &socket);
    let port = server.arguments.get(1).and_then(|word| word.to_str()?.parse().ok());
    shut_down(port.ok_or("redis-server has no port")?).map_err(failed)?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).map_err(failed)?;
    }
    child.wait().map_err(failed)?;
    Ok(Used { time_s: client?, ..Used::read(&said)? })
}

/// Seconds that the client took.
fn client(units: u32, socket: &std::path::Path) -> Result<f64, String> {
    let requests = (units * 1000).to_string();
    let begun = Instant::now();
    let keys = (units * 300).to_string();
    let mut command = Command::new("redis-benchmark");
    command.arg("-s").arg(socket).args(["-n", &requests, "-P", "16", "-q", "-r", &keys]);
    command.args(["-d", "100", "-t", "set,get,lpush,lpop,sadd,hset"]);
    said(&mut command)?;
    Ok(begun.elapsed().as_secs_f64())
}

fn shut_down(port: u16) -> std::io::Result<()> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.write_all(b"SHUTDOWN NOSAVE\r\n")?;
    // It answers by closing the connection.
    let _ = connection.read_to_end(&mut Vec::new());
    Ok(())
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

/// The C library of this process, which is the machine's.
fn libc_path() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libc.so.6"))?;
    line.split_whitespace().next_back().map(PathBuf::from)
}
