//! Installs the few programs that building and testing need, where that is possible.

use crate::shell;
use std::process::Command;

/// A need: any one of some programs, and the Debian package that brings one.
type Need = (&'static [&'static str], &'static str);

/// What building needs: the peers and zstd are C, and jemalloc has a makefile.
pub(crate) const TO_BUILD: &[Need] = &[(&["cc"], "gcc"), (&["c++"], "g++"), (&["make"], "make")];

/// What the tests need besides: a browser for the report's page, and another libc.
pub(crate) const TO_TEST: &[Need] = &[
    (&["cc"], "gcc"),
    (&["c++"], "g++"),
    (&["make"], "make"),
    (&["chromium", "chromium-browser", "google-chrome"], "chromium"),
    (&["chromedriver"], "chromium-driver"),
    (&["musl-gcc"], "musl-tools"),
];

/// Installs what is missing by apt when we are root; says what to install otherwise.
pub(crate) fn run(needs: &[Need]) -> Result<(), String> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|(programs, _)| !programs.iter().any(|program| shell::is_there(program)))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !is_root() || !shell::is_there("apt-get") {
        return Err(format!("missing: {packages}; install them (apt-get install {packages})"));
    }
    shell::run(Command::new("apt-get").args(["update", "-q"]))?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["install", "-q", "-y", "--no-install-recommends"]).args(&missing);
    shell::run(&mut install)
}

fn is_root() -> bool {
    let mut command = Command::new("id");
    shell::output(command.arg("-u")).is_ok_and(|text| text.trim() == "0")
}
