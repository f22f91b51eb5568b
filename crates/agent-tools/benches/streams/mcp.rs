//! A client of `agent-tools mcp`, and a node process that starts plain processes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A child that answers each line with a line.
#[derive(Debug)]
struct Lines {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    child: Child,
}

impl Lines {
    fn start(command: &mut Command) -> Option<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let (input, output) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        Some(Self { input, output, child })
    }

    fn send(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn receive(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "the process has ended");
        line
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with one session.
#[derive(Debug)]
pub(crate) struct Server {
    lines: Lines,
    calls: u64,
}

impl Server {
    pub(crate) fn start(program: &str, home: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(["mcp", "--session", "mcp"]).env("AGENT_TOOLS_HOME", home);
        let mut server = Self { lines: Lines::start(&mut command).unwrap(), calls: 0 };
        server.request(
            "initialize",
            &json!({
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": { "name": "bench", "version": "1" },
            }),
        );
        server.lines.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        server
    }

    fn request(&mut self, method: &str, params: &Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.lines.send(&request.to_string());
        loop {
            let message: Value = serde_json::from_str(&self.lines.receive()).unwrap();
            if message["id"] == id {
                return message["result"].clone();
            }
        }
    }

    /// Calls a tool. Returns the time until its result.
    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> Duration {
        let started = Instant::now();
        let result = self.request("tools/call", &json!({ "name": tool, "arguments": arguments }));
        let elapsed = started.elapsed();
        assert!(result["isError"] != true && result["content"].is_array(), "{result}");
        elapsed
    }
}

/// A node process that runs `bash -c true` for each line, and answers with the nanoseconds.
#[derive(Debug)]
pub(crate) struct Node(Lines);

impl Node {
    const SCRIPT: &str = "
        const { spawn } = require('node:child_process');
        require('node:readline').createInterface({ input: process.stdin }).on('line', () => {
          const started = process.hrtime.bigint();
          spawn('bash', ['-c', 'true']).on('close', () =>
            console.log(String(process.hrtime.bigint() - started)));
        });";

    /// Starts node, or returns `None` if it is absent.
    pub(crate) fn start() -> Option<Self> {
        let node = std::env::var_os("NODE22").unwrap_or_else(|| "node".into());
        Lines::start(Command::new(node).args(["-e", Self::SCRIPT])).map(Self)
    }

    pub(crate) fn spawn(&mut self) -> Duration {
        self.0.send("");
        Duration::from_nanos(self.0.receive().trim().parse().unwrap())
    }
}
