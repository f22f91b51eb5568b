//! Commands of an agent in a kernel sandbox.
//!
//! Run it with `cargo run -p sandbox-core --features native --example native`.

use std::error::Error;
use std::time::Duration;

use policy::Policy;
use sandbox_core::{CommandSpec, Limits, NativeSandbox, Sandbox, SessionDir};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let session = SessionDir::create(&root.path().join("conversation-1"))?;

    // The default policy: commands write to the session and to a private /tmp, and have no network.
    let policy = Policy::session(session.path()).build()?;
    let mut limits = Limits::default();
    limits.file_bytes = 1 << 20;
    let sandbox = NativeSandbox::builder(&policy, session.path()).limits(limits).open()?;
    for (layer, enforcement) in sandbox.report().layers() {
        println!("{layer}: {enforcement}");
    }

    for command in [
        "echo hello > greeting && cat greeting",
        "ls /home /root 2>&1 | head -3",
        "cat < /dev/tcp/127.0.0.1/22",
        "head -c 2M /dev/zero > large",
        "sleep 60",
    ] {
        let mut spec = CommandSpec::new(command);
        spec.env.push(("PATH".into(), "/usr/bin:/bin".into()));
        spec.timeout = Duration::from_secs(1);
        let output = sandbox.exec(spec).await?;
        println!("\n$ {command}");
        print!("{}", String::from_utf8_lossy(&output.stdout.bytes));
        print!("{}", String::from_utf8_lossy(&output.stderr.bytes));
        println!("{:?} after {:.0?}", output.status, output.elapsed);
        if let Some(limit) = output.limit_reached() {
            println!("limit reached: {limit:?}");
        }
    }
    sandbox.close().await;
    Ok(())
}
