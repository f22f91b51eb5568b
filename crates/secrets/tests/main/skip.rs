//! Tests whose counterpart is not on this machine.

/// Says what could not be tested and how it could be; where everything has to be there, that is a
/// failure.
pub(crate) fn skipped(what: &str, how: &str) {
    let line = format!("SKIPPED: {what} ({how})");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{line}");
    println!("{line}");
}
