//! Opens a session, runs a command in it, reads a file, and closes the session.
//!
//! ```sh
//! cargo run -p agent-tools --example session
//! ```

use agent_tools::{Home, SessionId, SessionSpec, Sessions, Storage, UserId};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("agent-tools-example-{}", std::process::id()));
    let sessions = Sessions::builder(Home::new(dir.join("home")))
        .storage(Storage::local(&dir.join("store"))?)
        .build();
    let spec = SessionSpec::new(SessionId::parse("conversation-1")?).user(UserId::parse("ann")?);
    let session = sessions.open(spec).await?;
    println!("session directory: {}", session.dir().display());

    let result = session.bash("date > report.txt; cat report.txt /etc/shadow").await?;
    println!("exit code: {}", result.exit_code);
    print!("standard output: {}", result.command_stdout());
    print!("standard error: {}", result.stderr);
    print!("{}", result.notes());

    let file = session.read_file("report.txt").await?;
    print!("report.txt: {}", file.content);

    sessions.close(session.id()).await?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
