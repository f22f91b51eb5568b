//! Processes with streams, signals and lifetimes, here and in another program.

use std::sync::Arc;
use std::time::Duration;

use agent_tools::{
    InputFrom, Lifetime, OptionalTool, OutputTo, Process, ProcessOutput, Session, SessionsBuilder,
    SharingError, Spawn, TerminalSize, ToolError, ToolSelection,
};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::fixture::{Fixture, Token, spec};

const LONG: Duration = Duration::from_secs(60);

/// Returns a session that this program serves, and the same one as another program has it.
async fn served_and_shared(fixture: &Fixture) -> [Arc<Session>; 2] {
    let first = fixture.open("s1").await;
    let second = fixture.other_process().open(spec("s1")).await.unwrap();
    assert!(!first.is_served_elsewhere() && second.is_served_elsewhere());
    [first, second]
}

async fn text(output: Option<ProcessOutput>) -> String {
    let (mut output, mut bytes) = (output.unwrap(), Vec::new());
    timeout(LONG, output.read_to_end(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the output ends with a text.
async fn expect(output: &mut ProcessOutput, end: &str) {
    let mut seen = Vec::new();
    let reads = async {
        while !seen.ends_with(end.as_bytes()) {
            seen.push(output.read_u8().await.unwrap());
        }
    };
    timeout(LONG, reads).await.unwrap();
}

async fn code(process: &mut Process) -> i32 {
    timeout(LONG, process.wait()).await.unwrap().unwrap().exit_code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_has_streams_signals_and_a_terminal_here_and_in_another_program() {
    let fixture = Fixture::with(|builder| builder.variables(Arc::new(Token)));
    for session in served_and_shared(&fixture).await {
        let mut spawn = Spawn::command("cat; echo $A $PWD; cat /etc/shadow; exit 3");
        (spawn.stdin, spawn.cwd) = (InputFrom::Pipe, Some("/usr".to_owned()));
        spawn.env = vec![("A".to_owned(), "b".to_owned())];
        let mut process = session.spawn(spawn).await.unwrap();
        let mut stdin = process.take_stdin().unwrap();
        stdin.write_all(b"in\xff\n").await.unwrap();
        drop(stdin);
        assert_eq!(text(process.take_stdout()).await, "in\u{fffd}\nb /usr\n");
        assert!(text(process.take_stderr()).await.contains("Permission denied"));
        let ended = process.wait().await.unwrap();
        assert_eq!((ended.exit_code, ended.stdout.as_str()), (3, ""));
        let hint = ended.hint.as_deref().unwrap_or_default();
        assert!(hint.starts_with("read /etc/shadow: "), "{hint}");
        assert_eq!(process.wait().await.unwrap(), ended);

        // The value arrives in two pieces.
        let split = "printf 'a %s' ${TOKEN:0:8}; sleep 0.05; printf '%s b' ${TOKEN:8}";
        let mut process = session.spawn(Spawn::command(split)).await.unwrap();
        assert_eq!(text(process.take_stdout()).await, "a [redacted:TOKEN] b");

        // Its first letter alone is shown after a pause.
        let mut asks = Spawn::command("printf 'yes or h'; read; printf '%s' ${TOKEN:1}");
        asks.stdin = InputFrom::Pipe;
        let mut process = session.spawn(asks).await.unwrap();
        let mut stdout = process.take_stdout().unwrap();
        expect(&mut stdout, "yes or h").await;
        process.take_stdin().unwrap().write_all(b"\n").await.unwrap();
        expect(&mut stdout, "[redacted:TOKEN]").await;

        let traps = "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.01; done";
        let mut spawn = Spawn::command(traps);
        spawn.stderr = OutputTo::Stdout;
        let mut process = session.spawn(spawn).await.unwrap();
        let mut stdout = process.take_stdout().unwrap();
        expect(&mut stdout, "ready\n").await;
        process.control().signal(10);
        expect(&mut stdout, "got\n").await;
        assert_eq!(code(&mut process).await, 5);

        let program = Spawn::program(["bash", "-c", "echo \"it's $0\"; exec sleep 1000", "x y"]);
        let mut process = session.spawn(program).await.unwrap();
        expect(process.take_stdout().as_mut().unwrap(), "it's x y\n").await;
        process.kill();
        process.kill();
        assert_eq!(code(&mut process).await, 137);

        let mut spawn = Spawn::command("stty size; read line; stty size; echo \"got $line\"");
        spawn.terminal = Some(TerminalSize { rows: 7, columns: 70 });
        let mut process = session.spawn(spawn).await.unwrap();
        let (mut keys, mut shown) = (process.take_stdin().unwrap(), process.take_stdout().unwrap());
        expect(&mut shown, "7 70\r\n").await;
        process.resize(TerminalSize { rows: 9, columns: 90 }).unwrap();
        keys.write_all(b"a key\n").await.unwrap();
        expect(&mut shown, "9 90\r\ngot a key\r\n").await;
        assert_eq!(code(&mut process).await, 0);

        let mut spawn = Spawn::command("true");
        spawn.cwd = Some("absent".to_owned());
        let mut process = session.spawn(spawn).await.unwrap();
        let error = process.wait().await.unwrap_err();
        assert!(error.message().contains("cannot enter the working directory"), "{error}");
        let mut spawn = Spawn::command("sleep 1000");
        spawn.timeout = Some(Duration::from_millis(50));
        let ended = session.spawn(spawn).await.unwrap().wait().await.unwrap();
        assert!(ended.timed_out && ended.exit_code == 124);
        assert_eq!(ended.time_limit_ms, Some(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_ends_with_its_call_or_with_its_session() {
    let fixture = Fixture::with(|builder| builder.variables(Arc::new(Token)));
    let [first, second] = served_and_shared(&fixture).await;
    for session in [&first, &second] {
        let mut process = session.spawn(Spawn::command("echo up; sleep 1000")).await.unwrap();
        let mut output = process.take_stdout().unwrap();
        expect(&mut output, "up\n").await;
        drop(process);
        assert_eq!(text(Some(output)).await, "");

        let waits = "echo up; until [ -e stop ]; do sleep 0.01; done; rm stop; touch done";
        let mut spawn = Spawn::command(waits);
        (spawn.lifetime, spawn.stdout) = (Lifetime::Session, OutputTo::Pipe);
        let mut process = session.spawn(spawn).await.unwrap();
        let mut output = process.take_stdout().unwrap();
        expect(&mut output, "up\n").await;
        drop(process);
        first.bash("touch stop; until [ -e done ]; do sleep 0.01; done; rm done").await.unwrap();
        assert_eq!(text(Some(output)).await, "");
    }
    let writes = "echo up; while :; do echo 1 > f; sleep 0.01; done";
    let mut spawn = Spawn::command(writes);
    spawn.lifetime = Lifetime::Session;
    let mut process = second.spawn(spawn).await.unwrap();
    expect(process.take_stdout().as_mut().unwrap(), "up\n").await;
    first.bash("until [ -s f ]; do sleep 0.01; done").await.unwrap();
    timeout(LONG, first.close()).await.unwrap().unwrap();
    let error = timeout(LONG, process.wait()).await.unwrap().unwrap_err();
    assert!(error.message().contains("closed"), "{error:?}");
    let key = Key::parse("general/user_7/sessions/s1/f").unwrap();
    assert_eq!(fixture.store.get(&key).await.unwrap().bytes().await.unwrap(), "1\n");
    let refused = first.spawn(Spawn::command("true")).await.unwrap_err();
    assert!(
        matches!(&refused, ToolError::Sharing { source: SharingError::Closed { .. } }),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_or_dropped_session_kills_the_processes_of_its_lifetime() {
    for ends_by_drop in [false, true] {
        let fixture = Fixture::new();
        let session = fixture.open("s1").await;
        let mut spawn = Spawn::command("echo up; echo 1 > made; exec sleep 1000");
        spawn.lifetime = Lifetime::Session;
        let mut process = session.spawn(spawn).await.unwrap();
        let mut output = process.take_stdout().unwrap();
        expect(&mut output, "up\n").await;
        if ends_by_drop {
            drop((session, fixture));
        } else {
            timeout(LONG, session.release()).await.unwrap();
        }
        assert_eq!(text(Some(output)).await, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_running_process_are_stored_and_its_result_names_them() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let mut spawn = Spawn::command("echo 1 > f; read line; echo 2 > g");
    spawn.stdin = InputFrom::Pipe;
    let mut process = session.spawn(spawn).await.unwrap();
    let key = Key::parse("general/user_7/sessions/s1/f").unwrap();
    let stored = async {
        while fixture.store.head(&key).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, stored).await.unwrap();
    let ended = process.wait().await.unwrap();
    let mut named: Vec<_> = ended.artifacts.iter().map(|file| &*file.relative_path).collect();
    named.sort_unstable();
    assert_eq!(named, ["f", "g"], "{ended:?}");
}

#[tokio::test]
async fn a_call_of_bash_has_a_directory_and_variables() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let mut options = agent_tools::BashOptions::default();
    options.cwd = Some("d".to_owned());
    options.env = vec![("A".to_owned(), "b".to_owned()), ("HOME".to_owned(), "/x".to_owned())];
    session.bash("mkdir d").await.unwrap();
    let ran = session.bash_with("echo $A $HOME; echo 1 > f", options.clone()).await.unwrap();
    assert_eq!((&*ran.stdout, &*ran.artifacts[0].relative_path), ("b /x\n", "d/f"));
    assert_eq!(ran.own_stdout, None, "there is no link");
    options.env = vec![("A=B".to_owned(), "c".to_owned())];
    let error = session.bash_with("true", options).await.unwrap_err();
    assert!(error.message().contains("cannot be the name of a variable"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_the_session_is_found_again_by_its_id_here_and_in_another_program() {
    let fixture = Fixture::with(|builder| builder.variables(Arc::new(Token)));
    let [serving, client] = served_and_shared(&fixture).await;
    let script = "trap 'touch stopped; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    for (starter, finder) in [(&serving, &client), (&client, &serving)] {
        let mut spawn = Spawn::command(format!("{script} # hunter2-hunter2"));
        spawn.lifetime = Lifetime::Session;
        let mut first = starter.spawn(spawn).await.unwrap();
        let mut output = first.take_stdout().unwrap();
        expect(&mut output, "ready\n").await;
        let id = first.id().to_owned();
        drop(first);

        let listed = finder.processes().await.unwrap();
        let summary = listed.iter().find(|process| process.id == id).unwrap();
        assert!(summary.is_running && summary.command.ends_with("# [redacted:TOKEN]"));
        let mut found = finder.process(&id).await.unwrap().unwrap();
        assert!(found.take_stdout().is_none() && found.take_stdin().is_none());
        found.signal(15);
        let ended = timeout(LONG, found.wait()).await.unwrap().unwrap();
        assert_eq!((ended.exit_code, ended.artifacts[0].relative_path.as_str()), (7, "stopped"));
        finder.bash("rm stopped").await.unwrap();

        // The result stays, for every program.
        for session in [&serving, &client] {
            let mut again = session.process(&id).await.unwrap().unwrap();
            assert_eq!(timeout(LONG, again.wait()).await.unwrap().unwrap().exit_code, 7);
            let listed = session.processes().await.unwrap();
            let summary = listed.into_iter().find(|process| process.id == id).unwrap();
            assert_eq!((summary.is_running, summary.exit_code), (false, Some(7)));
            assert!(session.process("p999").await.unwrap().is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_of_another_program_read_and_stop_a_process() {
    let all = |builder: SessionsBuilder| {
        builder.tools(OptionalTool::all().fold(ToolSelection::default(), ToolSelection::with))
    };
    let fixture = Fixture::with(all);
    let first = fixture.open("s1").await;
    let second = fixture.other_process().open(spec("s1")).await.unwrap();
    let input = json!({ "command": "echo ready; exec sleep 1000" });
    let started = first.call("startProcess", input).await.unwrap();
    let id = &started["processId"];
    let read = second.call("readProcess", json!({ "processId": id, "waitMs": 0 })).await.unwrap();
    assert_eq!((&read["isRunning"], &read["output"]), (&json!(true), &json!("")));
    assert_eq!(read["note"], "only the program that started the process gets its output");
    let input = json!({ "processId": id, "input": "x" });
    let refused = second.call("readProcess", input).await.unwrap_err().message();
    let id = id.as_str().unwrap();
    let expected = format!("only the program that started process {id} has its input");
    assert!(refused.contains(&expected), "{refused}");
    let stopped = second.call("stopProcess", json!({ "processId": id })).await.unwrap();
    assert_eq!((&stopped["isRunning"], &stopped["exitCode"]), (&json!(false), &json!(143)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_cancelled_leaves_no_process() {
    let all = |builder: SessionsBuilder| {
        builder.tools(OptionalTool::all().fold(ToolSelection::default(), ToolSelection::with))
    };
    let fixture = Fixture::with(all);
    let session = fixture.open("s1").await;
    // The call waits for the first output.
    let call = session.call("startProcess", json!({ "command": "exec sleep 1000" }));
    assert!(timeout(Duration::from_millis(300), call).await.is_err());
    let ended = async {
        while session.processes().await.unwrap().iter().any(|process| process.is_running) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, ended).await.unwrap();
}
