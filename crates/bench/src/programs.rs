//! The programs that are recorded: found on this machine, with inputs made for them.

use crate::inputs;
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How much the programs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Some seconds each, enough to measure.
    Full,
    /// As little as shows that everything works.
    Quick,
}

/// What drives a server.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// The client and its arguments; it is not measured.
    pub client: Vec<OsString>,
}

/// A program ready to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable itself, not a script that starts it.
    pub exe: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Additions to its environment.
    pub environment: Vec<(String, String)>,
    /// What drives it, if it is a server; it is ended by `SHUTDOWN NOSAVE`, redis's command.
    pub load: Option<Load>,
    /// What it says of its version.
    pub version: String,
}

/// The suite's programs by name, with their inputs written into `directory`; for one that is
/// missing here, what is missing.
///
/// Takes a second or two: it preprocesses the files for the compilers.
pub fn programs(scale: Scale, directory: &Path) -> Vec<(&'static str, Result<Program, String>)> {
    vec![
        ("python3", python(scale, directory)),
        ("sqlite3", sqlite(&SQL_TEXTS, scale, directory)),
        ("sqlite3 (one query)", sqlite(&SQL_QUERY, scale, directory)),
        ("redis-server", redis(scale, "16")),
        ("redis-server (no pipeline)", redis(scale, "1")),
        ("gcc (C)", compiler(&C, scale, directory)),
        ("g++ (C++)", compiler(&CPP, scale, directory)),
    ]
}

fn python(scale: Scale, directory: &Path) -> Result<Program, String> {
    // The command may be a script that starts the interpreter.
    let exe = said(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))?;
    let script = directory.join("work.py");
    write(&script, &inputs::python_script(if scale == Scale::Full { 40 } else { 1 }))?;
    Ok(Program {
        version: said(Command::new(&exe).arg("--version"))?,
        exe: exe.into(),
        arguments: vec![script.into()],
        environment: vec![("PYTHONMALLOC".into(), "malloc".into())],
        load: None,
    })
}

/// A way to fill a table.
struct Sql {
    script: &'static str,
    text: fn(u32) -> String,
    rows: u32,
}

const SQL_TEXTS: Sql = Sql { script: "rows.sql", text: inputs::sql_script, rows: 300_000 };

const SQL_QUERY: Sql = Sql { script: "query.sql", text: inputs::sql_query, rows: 1_000_000 };

fn sqlite(sql: &Sql, scale: Scale, directory: &Path) -> Result<Program, String> {
    let script = directory.join(sql.script);
    write(&script, &(sql.text)(if scale == Scale::Full { sql.rows } else { 500 }))?;
    let version = said(Command::new("sqlite3").arg("--version"))?;
    Ok(Program {
        exe: find("sqlite3")?,
        arguments: vec![":memory:".into(), format!(".read {}", script.display()).into()],
        environment: Vec::new(),
        load: None,
        version: version.split(' ').next().unwrap_or_default().to_owned(),
    })
}

/// A server with a client that sends so many requests before it waits for an answer.
fn redis(scale: Scale, pipeline: &str) -> Result<Program, String> {
    let client = find("redis-benchmark")?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let requests = match (scale, pipeline) {
        (Scale::Quick, _) => "2000",
        (Scale::Full, "1") => "40000",
        (Scale::Full, _) => "400000",
    };
    let client: Vec<OsString> = vec![
        client.into(),
        "-p".into(),
        port.to_string().into(),
        "-n".into(),
        requests.into(),
        "-P".into(),
        pipeline.into(),
        "-q".into(),
        "-t".into(),
        "set,get,lpush,hset".into(),
    ];
    let arguments = ["--port", &port.to_string(), "--save", "", "--appendonly", "no"];
    Ok(Program {
        exe: find("redis-server")?,
        arguments: arguments.iter().map(OsString::from).collect(),
        environment: Vec::new(),
        load: Some(Load { port, client }),
        version: said(Command::new("redis-server").arg("--version"))?,
    })
}

/// A language that gcc compiles.
struct Language {
    driver: &'static str,
    stage: &'static str,
    source: &'static str,
    preprocessed: &'static str,
    text: fn(u32) -> String,
    functions: u32,
}

const C: Language = Language {
    driver: "gcc",
    stage: "cc1",
    source: "big.c",
    preprocessed: "big.i",
    text: inputs::c_file,
    functions: 1000,
};

const CPP: Language = Language {
    driver: "g++",
    stage: "cc1plus",
    source: "big.cpp",
    preprocessed: "big.ii",
    text: inputs::cpp_file,
    functions: 30,
};

/// The compiler proper, without the driver: recorders differ in how they follow processes.
fn compiler(language: &Language, scale: Scale, directory: &Path) -> Result<Program, String> {
    let stage = format!("-print-prog-name={}", language.stage);
    let exe = PathBuf::from(said(Command::new(language.driver).arg(stage))?);
    if !exe.is_absolute() {
        return Err(format!("{} has no {}", language.driver, language.stage));
    }
    let functions = if scale == Scale::Full { language.functions } else { 2 };
    let source = directory.join(language.source);
    let preprocessed = directory.join(language.preprocessed);
    write(&source, &(language.text)(functions))?;
    let mut preprocess = Command::new(language.driver);
    said(preprocess.arg("-E").arg(&source).arg("-o").arg(&preprocessed))?;
    let version = said(Command::new(language.driver).arg("--version"))?;
    let mut arguments: Vec<OsString> = vec!["-quiet".into(), "-fpreprocessed".into()];
    arguments.extend([preprocessed.into(), "-O2".into(), "-o".into(), "/dev/null".into()]);
    Ok(Program {
        exe,
        arguments,
        environment: Vec::new(),
        load: None,
        version: version.lines().next().unwrap_or_default().to_owned(),
    })
}

/// The executable file that `name` stands for.
pub(crate) fn find(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|place| place.join(name)).find(|at| at.is_file());
    found.ok_or_else(|| format!("{name} is not installed"))
}

/// What `command` prints, when it succeeds.
pub(crate) fn said(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name} cannot be run: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!("{name}: {}", output.status)),
    }
}

/// Writes `text` to `path`.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
