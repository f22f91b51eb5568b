//! The protocol: invalid messages, progress, time limits, and the start of the server.

use std::io::{BufRead, Write};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::Server;
use crate::cli::Cli;

fn next(server: &mut Server) -> Value {
    let mut line = String::new();
    server.output.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_message_that_cannot_be_handled_gets_an_error_with_its_id() {
    let cli = Cli::new();
    let mut server = Server::start(&cli);
    for (line, code, id) in [
        ("not json", -32700, Value::Null),
        ("{\"jsonrpc\":", -32700, Value::Null),
        ("\u{0}", -32700, Value::Null),
        (r#"{"jsonrpc":"2.0","id":70,"method":"ping""#, -32700, json!(70)),
        (
            r#"{"method":"tools/call","params":{"name":"bash","arguments":{"command":"\udc00"}},"jsonrpc":"2.0","id":71}"#,
            -32700,
            json!(71),
        ),
        (r#"{"jsonrpc":"3.0","id":"x","method":"ping"}"#, -32600, json!("x")),
        (r#"{"jsonrpc":"2.0","id":72,"method":"tools/call","params":{}}"#, -32602, json!(72)),
        (r#"{"jsonrpc":"2.0","id":73,"method":"tools/call"}"#, -32602, json!(73)),
        (
            r#"{"jsonrpc":"2.0","id":74,"method":"tools/call","params":{"name":"bash","arguments":[]}}"#,
            -32602,
            json!(74),
        ),
        (r#"{"jsonrpc":"2.0","id":75,"method":"no/such"}"#, -32601, json!(75)),
    ] {
        writeln!(server.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let answer = next(&mut server);
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{answer}");
        if code == -32602 {
            let message = answer["error"]["message"].as_str().unwrap();
            let parameter = if id == 74 { "`arguments`" } else { "`name`" };
            assert!(message.contains(parameter), "{message}");
        }
    }
    let result = server.call("bash", json!({ "command": "echo still here" }));
    assert_eq!(result["structuredContent"]["stdout"], "still here\n");
}

#[test]
fn a_request_with_the_id_of_a_running_one_is_refused_and_the_first_can_be_cancelled() {
    let cli = Cli::new();
    let mut server = Server::start(&cli);
    let call = |command: &str| {
        let params = json!({ "name": "bash", "arguments": { "command": command } });
        json!({ "jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": params })
    };
    server.send(&call("touch begun; sleep 100; touch survived"));
    server.send(&call("touch second"));
    let refused = next(&mut server);
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("x"), &json!(-32600)));
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("the id is in use"), "{message}");
    let cancelled = json!({ "requestId": "x" });
    server.send(&json!({
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": cancelled,
    }));
    let listed = server.call("bash", json!({ "command": "ls second survived" }));
    assert_eq!(listed["structuredContent"]["exitCode"], 2, "{listed}");
    // An id that has been answered is free again.
    for _ in 0..2 {
        server.send(&call("echo again"));
        let answer = next(&mut server);
        assert_eq!(answer["result"]["structuredContent"]["stdout"], "again\n", "{answer}");
    }
}

#[test]
fn a_second_initialize_is_refused_and_the_connection_stays() {
    let cli = Cli::new();
    let mut server = Server::start(&cli);
    let client = json!({ "name": "test", "version": "0" });
    let hello =
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    for params in [hello, json!({})] {
        let error = server.request("initialize", params)["error"].clone();
        assert_eq!(error["code"], -32600, "{error}");
        assert!(error["message"].as_str().unwrap().contains("has begun already"), "{error}");
    }
    let result = server.call("bash", json!({ "command": "echo here" }));
    assert_eq!(result["structuredContent"]["stdout"], "here\n");
}

#[test]
fn messages_before_initialize_do_not_end_the_server() {
    let cli = Cli::new();
    let mut server = Server::spawn(cli.command(&["mcp", "--session", "m"]));
    for (line, expected) in [
        (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, None),
        (r#"{"jsonrpc":"2.0","id":70,"method":"tools/list"}"#, Some("first request is `init")),
        (r#"{"jsonrpc":"2.0","id":71,"method":"no/such"}"#, Some("first request is `init")),
        (r#"{"jsonrpc":"2.0","id":72,"method":"ping"}"#, Some("\"result\":{}")),
    ] {
        writeln!(server.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        if let Some(expected) = expected {
            let answer = next(&mut server).to_string();
            assert!(answer.contains(expected), "{answer}");
        }
    }
    server.initialize();
    let result = server.call("bash", json!({ "command": "echo here" }));
    assert_eq!(result["structuredContent"]["stdout"], "here\n");
}

#[test]
fn errors_repeat_no_value_of_a_variable_and_no_long_text() {
    let cli = Cli::new();
    cli.run_with(&["variable", "set", "TOKEN"], VALUE).ok();
    // The second server is a client of the first one, which knows the values.
    let (mut serving, mut sharing) = (Server::start(&cli), Server::start(&cli));
    for server in [&mut serving, &mut sharing] {
        for text in [VALUE.to_owned(), format!("{}{VALUE}", "x".repeat(1 << 20))] {
            let answers = [
                server.call("writeFile", json!({ "path": "f", "content": "", &text: 1 })),
                server.call("bash", json!({ "command": "true", "timeoutMs": &text })),
                server.request("tools/call", json!({ "name": &text })),
                server.call("readFile", json!({ "path": format!("../{text}") })),
                server.call("writeFile", json!({ "path": format!("a\0{text}"), "content": "" })),
                server.request("resources/read", json!({ "uri": &text })),
                server.request(&text, json!({})),
            ];
            for (at, answer) in answers.iter().enumerate() {
                let answer = answer.to_string();
                assert!(answer.len() < 1000 && !answer.contains(VALUE), "{at}: {answer}");
            }
            let unknown = answers[0].to_string();
            assert!(unknown.contains("`path`, `content`"), "{unknown}");
            assert!(answers[2].to_string().contains("readFile"), "{}", answers[2]);
        }
    }
    let unknown = serving.request("tools/call", json!({ "name": "Bash" })).to_string();
    assert!(unknown.contains("Bash"), "{unknown}");
}

const VALUE: &str = "correct-horse-battery-staple";

#[test]
fn a_message_of_many_megabytes_is_accepted() {
    let cli = Cli::new();
    let mut server = Server::start(&cli);
    let content = "x".repeat(20 << 20);
    let written = server.call("writeFile", json!({ "path": "f", "content": content }));
    assert_eq!(written["isError"], false);
    let size = server.call("bash", json!({ "command": "wc -c < f" }));
    assert_eq!(size["structuredContent"]["stdout"], "20971520\n");
}

#[test]
fn a_client_with_a_token_sees_the_last_line_of_the_output() {
    let cli = Cli::new();
    let mut server = Server::start(&cli);
    server.requests += 1;
    let id = server.requests;
    let command = "echo first; echo 'step 2'; printf unfinished; sleep 4.5";
    let call = json!({
        "name": "bash", "arguments": { "command": command }, "_meta": { "progressToken": "t" },
    });
    server.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": call }));
    let mut progress = Vec::new();
    loop {
        let message = next(&mut server);
        if message["id"] == id {
            break;
        }
        assert_eq!(message["method"], "notifications/progress", "{message}");
        assert_eq!(message["params"]["progressToken"], "t");
        assert_eq!(message["params"]["message"], "step 2");
        progress.push(message["params"]["progress"].as_f64().unwrap());
    }
    assert!(progress.len() >= 2 && progress.is_sorted(), "{progress:?}");
    // Without a token, a call has no notifications; the next message is its answer.
    let ran = server.call("bash", json!({ "command": "sleep 2.5" }));
    assert_eq!(ran["structuredContent"]["exitCode"], 0);
}

#[test]
fn time_limits_are_above_zero_and_at_most_the_maximum() {
    let cli = Cli::new();
    let options = ["mcp", "--timeout", "0.3", "--max-timeout", "1"];
    let mut server = Server::start_with(&cli, &options);
    let mut call = |input: Value| server.call("bash", input);
    let stopped = call(json!({ "command": "sleep 20" }));
    assert_eq!(stopped["structuredContent"]["timedOut"], true);
    for (milliseconds, problem) in
        [(0, "timeoutMs must be at least 1"), (1_000_000_000, "timeoutMs may be at most 1000 here")]
    {
        let refused = call(json!({ "command": "touch ran", "timeoutMs": milliseconds }));
        let text = refused["content"][0]["text"].as_str().unwrap();
        assert!(refused["isError"] == true && text.contains(problem), "{text}");
    }
    let longer = call(json!({ "command": "sleep 0.5; ls ran", "timeoutMs": 1000 }));
    assert_eq!(longer["structuredContent"]["exitCode"], 2, "nothing ran: {longer}");
}

#[test]
fn initialize_is_answered_before_the_session_is_open() {
    let cli = Cli::new();
    // Another user owns the session, so it cannot be opened.
    cli.run(&["bash", "--session", "m", "--user", "ann", "true"]).ok();
    let mut command = cli.command(&["mcp", "--session", "m", "--user", "bob"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let client = json!({ "name": "test", "version": "0" });
    let hello =
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    for message in [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" }),
    ] {
        writeln!(input, "{message}").unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let answers: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers[0]["result"]["serverInfo"]["name"], "agent-tools", "{answers:?}");
    let reason = answers[1]["error"]["message"].as_str().unwrap();
    assert!(reason.starts_with("the session cannot be opened: "), "{reason}");
    assert_eq!(output.status.code(), Some(125));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(&reason["the session cannot be opened: ".len()..]), "{stderr}");
}

#[test]
fn the_log_has_no_colours_in_a_pipe_and_no_input_of_calls() {
    let cli = Cli::with_environment(&[("AGENT_TOOLS_LOG", "trace")]);
    let mut command = cli.command(&["mcp"]);
    command.stderr(Stdio::piped());
    let mut server = Server::start_command(command);
    server.call("bash", json!({ "command": "echo hi" }));
    drop(server.child.stdin.take());
    let mut log = String::new();
    let mut stderr = server.child.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut log).unwrap();
    assert!(log.contains("INFO") && !log.contains('\u{1b}'), "{log}");
    assert!(!log.contains("echo hi"), "{log}");
}

#[test]
fn a_signal_lets_running_calls_end() {
    use rustix::process::{Pid, Signal, kill_process};
    let cli = Cli::new();
    let mut server = Server::start(&cli);
    server.requests += 1;
    let id = server.requests;
    let call =
        json!({ "name": "bash", "arguments": { "command": "touch begun; sleep 1; echo end" }});
    server.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": call }));
    let begun = cli.home().join("sessions/m/begun");
    while !begun.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    let answer = server.answer(id);
    let stdout = answer["result"]["structuredContent"]["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("end\n"), "{answer}");
    assert_eq!(server.child.wait().unwrap().code(), Some(143));
}
