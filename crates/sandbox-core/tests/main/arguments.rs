//! Commands and environments up to the limits of the kernel.

use sandbox_core::{CommandStatus, ExecErrorKind, Sandbox};

use crate::fixture::{fixture, spec};

#[tokio::test]
async fn many_and_long_variables_reach_the_command() {
    let fixture = fixture();
    let mut request = spec("env | grep -c ^V_; printf %s \"$LONG\" | wc -c");
    request.env.extend((0..6_000).map(|number| (format!("V_{number}").into(), "x".into())));
    request.env.push(("LONG".into(), "y".repeat(130_000).into()));
    request
        .env
        .extend((0..10).map(|number| (format!("W_{number}").into(), "z".repeat(100_000).into())));
    let ran = fixture.sandbox.exec(request).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout.bytes), "6000\n130000\n", "{ran:?}");
    assert_eq!(fixture.text("echo next").await, "next\n");
}

#[tokio::test]
async fn a_long_script_is_a_command() {
    let fixture = fixture();
    // A part ends within a character of several bytes.
    let text = "é'\\n".repeat(100_000);
    let checksum = "perl -0777 -ne 'print unpack(q(%32C*)), q( ), length'";
    let script = format!(
        "env | grep -c AGENT_TOOLS_PART; echo $0 $#; cat <<'END' | {checksum}\n{text}\nEND\nexit 3"
    );
    let ran = fixture.run(&script).await;
    assert_eq!(ran.status, CommandStatus::Exited(3), "{ran:?}");
    let arrived = format!("{text}\n");
    let sum: u64 = arrived.bytes().map(u64::from).sum();
    let expected = format!("0\nbash 0\n{sum} {}", arrived.len());
    assert_eq!(String::from_utf8_lossy(&ran.stdout.bytes), expected);
}

#[tokio::test]
async fn beyond_the_limit_of_the_kernel_the_error_is_that_of_the_kernel() {
    let fixture = fixture();
    let mut request = spec("true");
    let large = |number| (format!("V_{number}").into(), "x".repeat(100_000).into());
    request.env.extend((0..200).map(large));
    let error = fixture.sandbox.exec(request).await.unwrap_err();
    let text = sandbox_core::with_causes(&error);
    assert!(text.contains("Argument list too long"), "{text}");
    let mut request = spec("true");
    request.env.push(("V".into(), "x".repeat(131_072).into()));
    let error = fixture.sandbox.exec(request).await.unwrap_err();
    assert_eq!(error.kind(), ExecErrorKind::BadRequest, "{error}");
    assert_eq!(fixture.text("echo next").await, "next\n");
}
