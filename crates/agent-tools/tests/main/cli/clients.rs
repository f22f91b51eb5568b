//! MCP clients of an earlier version, and none at all.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use super::Cli;

#[test]
fn a_server_without_a_client_creates_no_session() {
    let cli = Cli::new();
    let ran = cli.run_with(&["mcp"], "");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("standard input ended before a request"), "{}", ran.stderr);
    assert!(!cli.home().join("sessions/default").exists());
    assert!(!cli.home().join("state/default").exists());
}

#[test]
fn the_version_with_batches_is_not_agreed_on() {
    let cli = Cli::new();
    for (asked, agreed) in
        [("2025-03-26", "2024-11-05"), ("2024-11-05", "2024-11-05"), ("2025-06-18", "2025-06-18")]
    {
        let mut command = cli.command(&["mcp"]);
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let client = json!({ "name": "test", "version": "0" });
        let parameters =
            json!({ "protocolVersion": asked, "capabilities": {}, "clientInfo": client });
        let request =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": parameters });
        let mut input = server.stdin.take().unwrap();
        writeln!(input, "{request}").unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["result"]["protocolVersion"], agreed, "{answer}");
        drop(input);
        server.wait().unwrap();
    }
}
