//! An object is tried before it is trusted: the dynamic linker would only warn.

use heapwright_launch::{ObjectError, PreloadObject};
use heapwright_testkit::programs::{compile, compile_with};
use std::fs;

#[test]
fn an_object_without_malloc_is_refused_by_name() {
    let error = PreloadObject::check(&compile("plugin")).expect_err("no malloc");
    assert!(matches!(error, ObjectError::NoMalloc(_)), "{error:?}");
}

#[test]
fn text_and_programs_are_not_objects() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("libtext.so");
    fs::write(&text, "not an object").expect("written");
    assert!(matches!(PreloadObject::check(&text), Err(ObjectError::NotAnObject(_))));
    let missing = directory.path().join("libmissing.so");
    assert!(matches!(PreloadObject::check(&missing), Err(ObjectError::Unreadable(..))));
    let program = compile_with("status", &["-no-pie"]);
    assert!(matches!(PreloadObject::check(&program), Err(ObjectError::NotAnObject(_))));
}

#[test]
fn an_object_that_ends_every_program_is_refused() {
    let error = PreloadObject::check(&compile_with("fatal_malloc", &["-shared", "-fPIC"]));
    assert!(
        matches!(&error, Err(ObjectError::Refused(_, why)) if why.contains("signal 6")),
        "{error:?}"
    );
}
