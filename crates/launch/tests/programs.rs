//! A command is judged before it is started: found, executable, and within reach.

use heapwright_launch::{Program, ProgramError, Reach};
use heapwright_testkit::programs::{compile, compile_with};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn find(path: &Path) -> Result<Program, ProgramError> {
    Program::find(path.as_os_str())
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode is set");
}

#[test]
fn a_dynamic_program_is_within_reach() {
    let program = find(&compile("simple")).expect("found");
    assert_eq!((program.reach(), program.reach().remedy()), (Reach::Preload, None));
    let shell = Program::find("sh".as_ref()).expect("sh is on PATH");
    assert!(shell.path().is_absolute());
}

#[test]
fn what_does_not_exist_is_127() {
    for command in ["no-such-command-here", "./no/such/file", ""] {
        let error = Program::find(command.as_ref()).expect_err("there is none");
        assert!(matches!(error, ProgramError::NotFound { .. }), "{error:?}");
        assert_eq!(error.exit_status(), 127);
        assert_eq!(error.to_string().lines().count(), 1);
    }
}

#[test]
fn what_cannot_be_executed_is_126() {
    let directory = tempfile::tempdir().expect("a directory");
    let plain = directory.path().join("plain");
    fs::write(&plain, "text").expect("written");
    assert!(matches!(find(&plain), Err(ProgramError::NotExecutable { .. })));
    assert!(matches!(find(directory.path()), Err(ProgramError::NotExecutable { .. })));
    set_mode(&plain, 0o755);
    let error = find(&plain).expect_err("no program");
    assert!(matches!(error, ProgramError::NotAProgram { .. }) && error.exit_status() == 126);
}

#[test]
fn a_static_program_is_out_of_reach() {
    let program = find(&compile_with("status", &["-static"])).expect("found");
    assert_eq!(program.reach(), Reach::Static);
    assert!(program.reach().remedy().is_some_and(|text| text.contains("heapwright::Recorded")));
}

#[test]
fn a_setuid_program_is_out_of_reach() {
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("copy");
    fs::copy(compile("status"), &copy).expect("copied");
    set_mode(&copy, 0o4755);
    assert_eq!(find(&copy).expect("found").reach(), Reach::Secure);
}

#[test]
fn a_script_is_judged_by_its_interpreter() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("script");
    fs::write(&script, "#! /bin/sh -e\necho ok\n").expect("written");
    set_mode(&script, 0o755);
    let program = find(&script).expect("found");
    assert_eq!((program.path(), program.image()), (script.as_path(), Path::new("/bin/sh")));
    fs::write(&script, "#!/no/such/interpreter\n").expect("written");
    let error = find(&script).expect_err("its interpreter is missing");
    assert!(error.to_string().contains("/no/such/interpreter"), "{error}");
}

#[test]
fn another_machines_program_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let foreign = directory.path().join("foreign");
    let mut bytes = fs::read(compile("status")).expect("read");
    bytes[18] = 0x28; // EM_ARM
    fs::write(&foreign, &bytes).expect("written");
    set_mode(&foreign, 0o755);
    let error = find(&foreign).expect_err("foreign");
    assert!(error.to_string().contains("another kind of machine"), "{error}");
}
