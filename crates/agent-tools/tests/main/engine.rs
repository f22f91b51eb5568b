//! Sessions on an engine of the embedder.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_tools::policy::Policy;
use agent_tools::{
    CapturedStream, CommandOutput, CommandSpec, CommandStatus, Enforcement, EngineReport,
    ExecError, InputFrom, NetworkSpec, OpenError, Sandbox, SandboxFactory, Spawn,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::fixture::{Fixture, spec};

const LONG: Duration = Duration::from_secs(60);

/// Answers with the input in capitals. The command `hang` never ends.
#[derive(Debug)]
struct Capitals(EngineReport);

#[async_trait::async_trait]
impl Sandbox for Capitals {
    async fn exec(&self, command: CommandSpec) -> Result<CommandOutput, ExecError> {
        if command.command == "hang" {
            std::future::pending::<()>().await;
        }
        let mut output = CommandOutput::new(CommandStatus::Exited(0));
        output.stdout = CapturedStream::new(command.stdin.to_ascii_uppercase());
        output.stderr = CapturedStream::new(command.command);
        Ok(output)
    }

    fn report(&self) -> &EngineReport {
        &self.0
    }

    async fn close(&self) {}
}

#[derive(Debug)]
struct Engine;

#[async_trait::async_trait]
impl SandboxFactory for Engine {
    async fn open(&self, _: &Policy, _: &Path) -> Result<Arc<dyn Sandbox>, OpenError> {
        let nothing = Enforcement::Weaker { why: "it runs nothing".to_owned() };
        Ok(Arc::new(Capitals(EngineReport::new("capitals", &nothing))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_session_works_on_an_engine_of_the_embedder() {
    let fixture = Fixture::with(|builder| builder.engine(Arc::new(Engine)));
    let session = fixture.open("s1").await;
    assert_eq!(session.report().engine, "capitals");
    let ran = session.call("bash", serde_json::json!({ "command": "make" })).await.unwrap();
    assert_eq!((&ran["stderr"], &ran["exitCode"]), (&"make".into(), &0.into()), "{ran}");

    let mut spawn = Spawn::command("shout");
    spawn.stdin = InputFrom::Pipe;
    let mut process = session.spawn(spawn).await.unwrap();
    process.take_stdin().unwrap().write_all(b"hello").await.unwrap();
    let mut output = String::new();
    process.take_stdout().unwrap().read_to_string(&mut output).await.unwrap();
    assert_eq!((output.as_str(), process.wait().await.unwrap().exit_code), ("HELLO", 0));

    let mut hanging = session.spawn(Spawn::command("hang")).await.unwrap();
    hanging.signal(15);
    assert_eq!(timeout(LONG, hanging.wait()).await.unwrap().unwrap().exit_code, 143);

    let written = session.write_file("/d/f", b"x").await.unwrap();
    assert!(written.key.is_some(), "{written:?}");
    assert_eq!(session.read_file("d/f").await.unwrap().content, "x");
    assert_eq!(session.stat("d/f").await.unwrap().size, 1);
    let denied = session.write_file("/tmp/f", b"x").await.unwrap_err();
    assert!(denied.message().contains("the file tools do not reach"), "{denied}");
    let error = session.wrap_command("make").await.unwrap_err();
    assert!(error.message().contains("cannot write a shell line"), "{}", error.message());

    // A native engine must not get the calls of another one.
    let native = agent_tools::Sessions::builder(fixture.sessions.home().clone()).build();
    let error = native.open(spec("s1")).await.unwrap_err();
    let text = agent_tools::with_causes(&error);
    assert!(text.contains("engine"), "{text}");

    let running = session.bash("hang");
    let closed = async {
        tokio::task::yield_now().await;
        fixture.sessions.close(session.id()).await.unwrap();
    };
    let (ran, ()) = timeout(LONG, async { tokio::join!(running, closed) }).await.unwrap();
    assert!(ran.unwrap_err().message().contains("closed"));
    assert!(!session.dir().exists());
}

#[tokio::test]
async fn an_engine_of_the_embedder_has_no_network() {
    let fixture = Fixture::with(|builder| builder.engine(Arc::new(Engine)));
    let spec = spec("s1").network(NetworkSpec::allow(["example.com"]));
    let error = fixture.sessions.open(spec).await.unwrap_err();
    assert!(agent_tools::with_causes(&error).contains("cannot open listeners"), "{error}");
}
