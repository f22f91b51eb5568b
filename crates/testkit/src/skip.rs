//! Tests that need a component of the machine.

/// Reports that a check cannot run because a component is absent.
///
/// `xtask` counts these lines. `remedy` says how to install the component.
///
/// # Panics
/// Panics if the environment has `CI=true`, because nothing may be skipped there.
#[track_caller]
pub fn skipped(what: &str, remedy: &str) {
    let line = format!("SKIPPED: {what} ({remedy})");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must not skip a check: {line}");
    println!("{line}");
}
