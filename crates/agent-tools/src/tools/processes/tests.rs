use serde_json::{Value, json};

use super::*;
use crate::home::Home;
use crate::sessions::{SessionSpec, Sessions};

/// Calls a tool. Returns its object, and its text for a model.
async fn call(session: &Session, tool: &Definition, input: Value) -> (Value, String) {
    match (tool.call)(session, input, CallOptions::default()).await {
        Ok(ToolResult { object, content: ToolContent::Text(text) }) => (object, text),
        Ok(other) => panic!("{other:?}"),
        Err(error) => (Value::Null, error.message()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_started_read_and_stopped_by_later_calls() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().canonicalize().unwrap().join("home"));
    let sessions = Sessions::builder(home).build();
    let spec = SessionSpec::new(sandbox_core::SessionId::parse("s1").unwrap());
    let session = sessions.open(spec).await.unwrap();

    let command = "echo ready; while read line; do echo \"got $line\"; done; touch end; echo bye";
    let (started, text) = call(&session, &START, json!({ "command": command })).await;
    assert_eq!((&started["output"], &started["isRunning"]), (&json!("ready\n"), &json!(true)));
    assert!(text.ends_with("is running\n"), "{text}");
    let id = started["processId"].as_str().unwrap().to_owned();

    // Another command of the session does not end it.
    session.bash("true").await.unwrap();
    let input = json!({ "processId": id, "input": "one\ntwo\n", "waitMs": 10_000 });
    let (read, _) = call(&session, &READ, input).await;
    assert_eq!(read["output"], "got one\ngot two\n");
    let input = json!({ "processId": id, "endInput": true, "waitMs": 10_000 });
    let mut output = String::new();
    let ended = loop {
        let (read, text) = call(&session, &READ, input.clone()).await;
        output += read["output"].as_str().unwrap();
        if read["isRunning"] == false {
            assert!(text.contains("has ended: exit code 0"), "{text}");
            break read;
        }
    };
    assert_eq!((output.as_str(), &ended["exitCode"]), ("bye\n", &json!(0)));
    let (_, refused) = call(&session, &READ, json!({ "processId": id, "input": "x" })).await;
    assert!(refused.contains(&format!("the input of process {id} has ended")), "{refused}");

    let stubborn = json!({ "command": "trap '' TERM; echo here; exec sleep 1000" });
    let (started, _) = call(&session, &START, stubborn).await;
    let id = started["processId"].as_str().unwrap().to_owned();
    let input = json!({ "processId": id, "signal": "SIGKILL" });
    let (stopped, text) = call(&session, &STOP, input).await;
    assert_eq!(stopped["exitCode"], 137, "{text}");

    // A process that has ended is reported as such, also if there is more output than one call
    // gets. It ignores SIGTERM, as it may not have ended yet.
    let long = json!({ "command": "trap '' TERM; seq 1 9000; exit 3" });
    let (started, _) = call(&session, &START, long).await;
    let id = started["processId"].as_str().unwrap().to_owned();
    let (stopped, text) = call(&session, &STOP, json!({ "processId": id })).await;
    assert_eq!((&stopped["isRunning"], &stopped["exitCode"]), (&json!(false), &json!(3)), "{text}");

    // A writer that waits for a process does not delay its end.
    let (started, _) = call(&session, &START, json!({ "command": "exec sleep 1000" })).await;
    let id = started["processId"].as_str().unwrap().to_owned();
    let written = json!({ "processId": id, "input": "x".repeat(300_000), "waitMs": 60_000 });
    let stopping = async {
        tokio::task::yield_now().await;
        let began = std::time::Instant::now();
        call(&session, &STOP, json!({ "processId": id, "signal": "KILL" })).await;
        began.elapsed()
    };
    let (_, took) = tokio::join!(call(&session, &READ, written), stopping);
    assert!(took < Duration::from_secs(30), "{took:?}");

    // Input that is not read ends the call after its time, and closed input is an error.
    let (started, _) = call(&session, &START, json!({ "command": "exec sleep 1000" })).await;
    let id = started["processId"].as_str().unwrap().to_owned();
    let input = json!({ "processId": id, "input": "x".repeat(3_000_000), "waitMs": 10 });
    let (_, refused) = call(&session, &READ, input).await;
    assert!(refused.contains("does not read its input: it got the first "), "{refused}");
    assert!(refused.contains(" of 3000000 bytes"), "{refused}");
    let closed = json!({ "command": "exec 0<&-; echo closed; exec sleep 1000" });
    let (started, _) = call(&session, &START, closed).await;
    assert_eq!(started["output"], "closed\n");
    let id = started["processId"].as_str().unwrap().to_owned();
    let input = json!({ "processId": id, "input": "lost\n", "waitMs": 10 });
    let (_, refused) = call(&session, &READ, input).await;
    assert!(refused.contains(&format!("the input of process {id} has ended")), "{refused}");

    // One that never ran is an error of the call.
    let absent = json!({ "command": "true", "cwd": "absent" });
    let (started, error) = call(&session, &START, absent).await;
    assert!(started.is_null() && error.contains("absent"), "{error}");

    let (_, unknown) = call(&session, &STOP, json!({ "processId": "nope" })).await;
    assert!(unknown.contains("there is no process \"nope\""), "{unknown}");
}
