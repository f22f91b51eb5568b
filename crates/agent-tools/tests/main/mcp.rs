//! The MCP server, driven by hand and by the official inspector.

mod content;
mod protocol;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::cli::Cli;

/// A running server and the number of requests so far.
pub(crate) struct Server {
    pub(crate) child: Child,
    output: BufReader<ChildStdout>,
    requests: u64,
}

impl Server {
    fn start(cli: &Cli) -> Self {
        Self::start_with(cli, &["mcp", "--session", "m"])
    }

    /// Starts the server with these arguments of the command.
    pub(crate) fn start_with(cli: &Cli, args: &[&str]) -> Self {
        Self::start_command(cli.command(args))
    }

    fn start_command(command: Command) -> Self {
        let mut server = Self::spawn(command);
        server.initialize();
        server
    }

    /// Starts the server, without a request.
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, requests: 0 }
    }

    fn initialize(&mut self) {
        let client = json!({ "name": "test", "version": "0" });
        let answer = self.request(
            "initialize",
            json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client }),
        );
        assert_eq!(answer["result"]["serverInfo"]["name"], "agent-tools");
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        // The session is open when the server describes its tools.
        self.request("tools/list", json!({}));
    }

    pub(crate) fn send(&mut self, message: &Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        self.requests += 1;
        let id = self.requests;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        self.answer(id)
    }

    pub(crate) fn answer(&mut self, id: u64) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the server ended");
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["id"] == id {
                return message;
            }
        }
    }

    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({ "name": tool, "arguments": arguments }))["result"]
            .clone()
    }
}

/// Ends the server at the end of a test, also of one that failed.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_tools_work_over_standard_input_and_output() {
    let cli = Cli::new();
    let mut server = Server::start(&cli);
    let tools = server.request("tools/list", json!({}));
    let names: Vec<&str> = tools["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    for name in ["bash", "readFile", "writeFile"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let ran = server.call("bash", json!({ "command": "echo hi | tee f; exit 3" }));
    assert_eq!(ran["structuredContent"]["exitCode"], 3);
    assert!(
        ran["structuredContent"]["stdout"]
            .as_str()
            .unwrap()
            .starts_with("hi\n\n\n[artifacts]\n  f: file:///")
    );
    assert_eq!(
        server.call("readFile", json!({ "path": "f" }))["structuredContent"]["content"],
        "hi\n"
    );
    let written = server.call("writeFile", json!({ "path": "g", "content": "x" }));
    assert_eq!(written["structuredContent"]["success"], true);
    let escaping = server.call("readFile", json!({ "path": "../x" }));
    assert_eq!(escaping["isError"], true);
    assert!(
        escaping["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("leads out of the session directory")
    );
    assert_eq!(server.call("bash", json!({ "cmd": "x" }))["isError"], true);
    let unknown = server.request("tools/call", json!({ "name": "rm", "arguments": {} }));
    assert_eq!(unknown["error"]["code"], -32602);
    drop(server.child.stdin.take());
    assert!(server.child.wait().unwrap().success(), "the end of input ends the server");
}

#[test]
fn a_cancelled_call_kills_its_command() {
    let cli = Cli::new();
    let mut server = Server::start(&cli);
    server.requests += 1;
    let id = server.requests;
    let command = "echo $$ > begun; sleep 100; touch survived";
    let call = json!({ "name": "bash", "arguments": { "command": command } });
    server.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": call }));
    let exit_code = |server: &mut Server, command: &str| {
        server.call("bash", json!({ "command": command }))["structuredContent"]["exitCode"].clone()
    };
    while exit_code(&mut server, "test -e begun") != 0 {}
    let cancelled = json!({ "requestId": id, "reason": "test" });
    server.send(&json!({
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": cancelled,
    }));
    // A command cannot see the processes of another one, so the test searches /proc of the host.
    let alive = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            command.windows(14).any(|bytes| bytes == b"touch survived")
        })
    };
    while alive() {
        std::thread::yield_now();
    }
    assert_eq!(exit_code(&mut server, "ls survived"), 2);
    drop(server.child.stdin.take());
    server.child.wait().unwrap();
}

#[test]
fn the_official_inspector_lists_and_calls_the_tools() {
    let (Some(node), Some(dir)) =
        (std::env::var_os("NODE22"), std::env::var_os("MCP_INSPECTOR_DIR"))
    else {
        return testkit::skipped("the MCP inspector", "`cargo xtask peers` installs it");
    };
    let cli = Cli::new();
    let inspect = |args: &[&str]| {
        let mut command = Command::new(&node);
        command
            .arg(Path::new(&dir).join("clients/launcher/build/index.js"))
            .arg("--cli")
            .args(args);
        command.args([
            env!("CARGO_BIN_EXE_agent-tools"),
            "--home",
            cli.home().to_str().unwrap(),
            "mcp",
            "--session",
            "i",
        ]);
        let output = command.env("HOME", cli.dir()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let tools = inspect(&["--strict", "--method", "tools/list"]);
    assert_eq!(tools["tools"][0]["name"], "bash");
    // `--tool-arg` takes all words up to the next option.
    let call =
        ["--tool-arg", "command=echo inspected", "--method", "tools/call", "--tool-name", "bash"];
    let ran = inspect(&call);
    assert_eq!(ran["structuredContent"]["stdout"], "inspected\n", "{ran}");
}

#[test]
fn changes_that_are_pending_when_the_client_ends_are_named() {
    let cli = Cli::new();
    let mut command = cli.command(&["mcp", "--session", "m"]);
    command.stderr(Stdio::piped());
    let mut server = Server::start_command(command);
    server.call("bash", json!({ "command": "echo 1 > stored" }));
    // Nothing can be created below a file.
    let store = cli.home().join("store");
    std::fs::rename(&store, store.with_extension("away")).unwrap();
    std::fs::write(&store, "").unwrap();
    server.call("bash", json!({ "command": "echo 2 > waiting" }));
    drop(server.child.stdin.take());
    assert!(server.child.wait().unwrap().success());
    let mut told = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("pending: ") && told.contains("waiting"), "{told}");
}
