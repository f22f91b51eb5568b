//! Connections from the host to servers of a session.

use std::time::Duration;

use agent_tools::{
    ErrorKind, Lifetime, Session, Sessions, Spawn, Storage, Tier, ToolError, Weakness,
};
use object_store::path::Path as Key;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::session::{Fixture, spec};

/// Sends back the first line of each connection, and then waits for the end of the client.
const SERVER: &str = "exec python3 -c '
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b\"got \" + self.rfile.readline())
        self.rfile.read()
socketserver.ThreadingTCPServer((\"127.0.0.1\", 8000), Handler).serve_forever()'";

/// Connects as soon as the server listens.
async fn dial(session: &Session) -> UnixStream {
    let dialing = async {
        loop {
            match session.dial(8000).await {
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                dialed => return dialed.unwrap(),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), dialing).await.expect("no server")
}

async fn exchange(stream: &mut UnixStream, text: &str) -> String {
    stream.write_all(format!("{text}\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; text.len() + 5];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_host_reaches_a_server_of_a_session_that_has_no_network() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    if session.bash("command -v python3").await.unwrap().exit_code != 0 {
        return testkit::skipped("a server of a session", "install python3");
    }
    let error = session.dial(8000).await.unwrap_err();
    assert!(matches!(&error, ToolError::Dial { port: 8000, .. }), "{error}");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, true));
    assert_eq!(error.to_string(), "there is no connection to port 8000 of the session");

    let mut server = Spawn::command(SERVER);
    server.lifetime = Lifetime::Session;
    session.spawn(server).await.unwrap();
    let mut first = dial(&session).await;
    assert_eq!(exchange(&mut first, "one").await, "got one\n");
    // Another program that uses the session gets a connection too.
    let storage = Storage::new(fixture.store.clone(), "bucket").with_prefix(Key::from("general"));
    let sessions = Sessions::builder(fixture.sessions.home().clone()).storage(storage).build();
    let client = sessions.open(spec("s1")).await.unwrap();
    assert!(client.is_served_elsewhere());
    let mut second = dial(&client).await;
    assert_eq!(exchange(&mut second, "two").await, "got two\n");
    // The server learns of the end of the host, and closes too.
    second.shutdown().await.unwrap();
    assert_eq!(second.read(&mut [0]).await.unwrap(), 0);
    // No other session has the port, and the end of the session ends the connection.
    let other = fixture.open("s2").await;
    assert!(matches!(other.dial(8000).await, Err(ToolError::Dial { .. })));
    session.release().await;
    assert_eq!(first.read(&mut [0]).await.unwrap_or_default(), 0);
}

#[tokio::test]
async fn the_weaker_engine_has_no_port_of_its_own() {
    let landlock = Tier::Landlock { accepted: Weakness::ALL.to_vec() };
    let fixture = Fixture::with(|builder| builder.tier(landlock));
    let session = fixture.open("s1").await;
    let error = session.dial(22).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Sandbox, false));
    let text = agent_tools::with_causes(&error);
    assert!(text.contains("use the engine `native`"), "{text}");
}
