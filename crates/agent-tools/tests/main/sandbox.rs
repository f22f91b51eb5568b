//! `agent-tools sandbox` as a replacement for `srt` in scripts.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("settings.json"), settings).unwrap();
        Self { dir }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent-tools"));
        command
            .arg("sandbox")
            .args(["--settings", "settings.json"])
            .args(arguments)
            .current_dir(self.dir.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("HOME", self.dir.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        outcome(&self.command(arguments).output().unwrap())
    }
}

fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.signal(), None, "a signal killed agent-tools");
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

const OPEN: &str = r#"{"network":{"allowedDomains":[],"deniedDomains":[]},
    "filesystem":{"denyRead":["hidden"],"allowWrite":["."],"denyWrite":["./denied"]}}"#;

#[test]
fn arguments_have_any_bytes_and_the_length_that_the_kernel_allows() {
    use std::os::unix::ffi::OsStrExt;

    let fixture = Fixture::new(OPEN);
    let odd = std::ffi::OsStr::from_bytes(b"a\xff'\n");
    let output = fixture.command(&["--", "printf", "%s"]).arg(odd).output().unwrap();
    assert_eq!(output.stdout, odd.as_bytes(), "{output:?}");
    let long = "x".repeat(100_000);
    let output = fixture
        .command(&["--", "sh", "-c", "echo $# ${#1}", "sh"])
        .args(std::iter::repeat_n(&long, 12))
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"12 100000\n", "{output:?}");
}

#[test]
fn arguments_arrive_as_they_are() {
    let fixture = Fixture::new(OPEN);
    let arguments = ["printf", "%s|", "a b", "it's", "$HOME", "", "-c", "\n", "é"];
    assert_eq!(fixture.run(&arguments), (0, "a b|it's|$HOME||-c|\n|é|".to_owned(), String::new()));
    let with_dashes = [&["--"][..], &arguments].concat();
    assert_eq!(fixture.run(&with_dashes).1, "a b|it's|$HOME||-c|\n|é|");
    assert_eq!(
        fixture.run(&["-c", "echo $((1 + 1)); echo err >&2"]),
        (0, "2\n".to_owned(), "err\n".to_owned())
    );
}

#[test]
fn exit_codes_are_those_of_a_shell() {
    let fixture = Fixture::new(OPEN);
    for (script, code) in [
        ("exit 0", 0),
        ("exit 42", 42),
        ("nosuchcommand", 127),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        assert_eq!(fixture.run(&["-c", script]).0, code, "{script}");
    }
    assert_eq!(fixture.run(&["nosuchcommand"]).0, 127);
    assert_eq!(fixture.run(&[]).0, 2);
    assert_eq!(fixture.run(&["-c", "true", "true"]).0, 2);
}

#[test]
fn processes_that_outlive_the_shell_are_named() {
    let fixture = Fixture::new(OPEN);
    let (code, _, text) = fixture.run(&["-c", "sleep 1000 & exit 3"]);
    assert_eq!((code, text.trim_end()), (3, "agent-tools: killed after the command: sleep"));
    let lingers = ["--linger", "100", "-c", "(sleep 0.5; echo late > file) & exit 4"];
    assert_eq!(fixture.run(&lingers), (4, String::new(), String::new()));
    assert_eq!(std::fs::read(fixture.dir.path().join("file")).unwrap(), b"late\n");
}

#[test]
fn relative_settings_begin_in_the_working_directory() {
    let fixture = Fixture::new(OPEN);
    std::fs::write(fixture.dir.path().join("denied"), "as it was").unwrap();
    std::fs::create_dir(fixture.dir.path().join("hidden")).unwrap();
    std::fs::write(fixture.dir.path().join("hidden/file"), "secret").unwrap();
    assert_eq!(fixture.run(&["-c", "echo x > new && cat new"]).1, "x\n");
    assert_ne!(fixture.run(&["-c", "echo x > denied"]).0, 0);
    assert_ne!(fixture.run(&["cat", "hidden/file"]).0, 0);
    assert_eq!(fixture.run(&["printenv", "SANDBOX_RUNTIME"]).1, "1\n");
    // Without a settings file, nothing is writable.
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-tools"));
    command
        .args(["sandbox", "-c", "pwd; echo x > more"])
        .current_dir(fixture.dir.path())
        .env("HOME", fixture.dir.path());
    let (code, stdout, _) = outcome(&command.output().unwrap());
    assert_eq!(
        (code, stdout),
        (1, format!("{}\n", fixture.dir.path().canonicalize().unwrap().display()))
    );
}

#[test]
fn invalid_settings_run_nothing() {
    for (settings, message) in [("", "EOF"), ("{", "EOF"), (r#"{"network":{}}"#, "allowedDomains")]
    {
        let fixture = Fixture::new(settings);
        let (code, stdout, stderr) = fixture.run(&["-c", "echo ran"]);
        assert_eq!((code, stdout.as_str()), (125, ""), "{stderr}");
        assert!(stderr.contains("settings.json") && stderr.contains(message), "{stderr}");
    }
    let fixture = Fixture::new(OPEN);
    std::fs::remove_file(fixture.dir.path().join("settings.json")).unwrap();
    assert_eq!(fixture.run(&["true"]).0, 125, "a file that was asked for must be there");
}

#[test]
fn input_and_output_pass_through() {
    let fixture = Fixture::new(OPEN);
    let mut child =
        fixture.command(&["-c", "head -n 1; wc -c"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        stdin.write_all(b"first line\n").unwrap();
        let _ = stdin.write_all(&vec![b'x'; 3_000_000]);
    });
    let (code, stdout, _) = outcome(&child.wait_with_output().unwrap());
    writer.join().unwrap();
    // `head` may read more than it prints.
    assert_eq!(code, 0);
    assert!(stdout.starts_with("first line\n"), "{stdout}");
}

#[test]
fn signals_reach_the_command_and_leftover_processes_delay_nothing() {
    let fixture = Fixture::new(OPEN);
    let begun = Instant::now();
    let (code, stdout, _) = fixture.run(&["-c", "sleep 1000 & setsid sleep 1000 & echo started"]);
    assert_eq!((code, stdout.as_str()), (0, "started\n"));
    assert!(begun.elapsed() < Duration::from_secs(30));

    let script =
        "trap 'echo caught; exit 9' INT TERM; echo ready; for i in {1..300}; do sleep 0.1; done";
    for signal in ["INT", "TERM"] {
        let mut child = fixture.command(&["-c", script]).spawn().unwrap();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        assert_eq!(line, "ready\n");
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut rest).unwrap();
        assert_eq!((child.wait().unwrap().code(), rest.as_str()), (Some(9), "caught\n"));
    }
}

#[test]
fn the_end_of_the_terminal_is_ignored_like_the_parent_process_wants() {
    let fixture = Fixture::new(OPEN);
    let inner = fixture.command(&["-c", "echo ready; sleep 1; echo survived"]);
    let mut outer = Command::new("bash");
    outer.args(["-c", "trap '' HUP; exec \"$@\"", "bash"]);
    outer.arg(inner.get_program()).args(inner.get_args());
    outer.current_dir(inner.get_current_dir().unwrap()).stdout(Stdio::piped());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = outer.spawn().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let sent = Command::new("kill").args(["-HUP", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    line.clear();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!((line.as_str(), child.wait().unwrap().code()), ("survived\n", Some(0)));
}

#[test]
fn the_variables_of_the_program_reach_no_command() {
    let fixture = Fixture::new(OPEN);
    let mut command = fixture.command(&["env"]);
    command
        .env("AGENT_TOOLS_SECRET", "passphrase")
        .env("AGENT_TOOLS_VARIABLES", "postgres://u:p@h");
    command.env("OTHER", "passed on");
    let (code, stdout, _) = outcome(&command.output().unwrap());
    assert!(code == 0 && stdout.contains("OTHER=passed on"), "{stdout}");
    assert!(!stdout.contains("AGENT_TOOLS_") && !stdout.contains("passphrase"), "{stdout}");
}

#[test]
fn a_directory_as_a_stream_is_refused() {
    let fixture = Fixture::new(OPEN);
    let dir = std::fs::File::open("/").unwrap();
    let ran = fixture.command(&["-c", "cat /proc/self/fd/0/etc/passwd"]).stdin(dir).output();
    let (code, stdout, stderr) = outcome(&ran.unwrap());
    assert_eq!((code, stdout.as_str()), (125, ""));
    assert!(stderr.contains("standard input is a directory"), "{stderr}");
}

#[test]
fn a_file_as_input_cannot_be_changed() {
    let settings = OPEN.replace(r#""allowWrite":["."]"#, r#""allowWrite":[]"#);
    let fixture = Fixture::new(&settings);
    let path = fixture.dir.path().join("input");
    std::fs::write(&path, "content\n").unwrap();
    let evil = "cat; echo evil > /proc/self/fd/0; true";
    let input = std::fs::File::open(&path).unwrap();
    let (code, stdout, _) = outcome(&fixture.command(&["-c", evil]).stdin(input).output().unwrap());
    assert_eq!((code, stdout.as_str()), (0, "content\n"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "content\n");
}

/// Runs a script of the caller, in which `$SANDBOX` runs a command in a sandbox that cannot write.
fn run_script(fixture: &Fixture, script: &str) -> String {
    let sandbox =
        format!("{} sandbox --settings settings.json --", env!("CARGO_BIN_EXE_agent-tools"));
    let ran = Command::new("bash")
        .args(["-c", script])
        .current_dir(fixture.dir.path())
        .env("SANDBOX", sandbox)
        .env("HOME", fixture.dir.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn a_command_takes_only_what_it_reads_from_a_file_that_others_read_too() {
    let fixture = Fixture::new(&OPEN.replace(r#""allowWrite":["."]"#, r#""allowWrite":[]"#));
    let loops = "seq 3 > in; while read l; do $SANDBOX echo got $l; done < in";
    assert_eq!(run_script(&fixture, loops), "got 1\ngot 2\ngot 3\n");
    let nothing = "seq 3 > in; { $SANDBOX true; cat; } < in";
    assert_eq!(run_script(&fixture, nothing), "1\n2\n3\n");
    let script = "printf 'echo a\n$SANDBOX echo b\necho c\n' > in; bash < in";
    assert_eq!(run_script(&fixture, script), "a\nb\nc\n");
    // More than a pipe holds.
    let large = "seq 200000 > in; { $SANDBOX head -c 1000000 > out; cat >> out; } < in; \
                 cmp in out && echo equal";
    assert_eq!(run_script(&fixture, large), "equal\n");
}

#[test]
fn a_command_overwrites_nothing_in_a_file_that_others_write_too() {
    let fixture = Fixture::new(&OPEN.replace(r#""allowWrite":["."]"#, r#""allowWrite":[]"#));
    let mixed = "{ echo first; $SANDBOX sh -c 'for i in 1 2 3 4; do echo line $i; sleep 0.05; \
                 done' | tee /dev/null; echo last; } > log 2>&1; cat log";
    assert_eq!(run_script(&fixture, mixed), "first\nline 1\nline 2\nline 3\nline 4\nlast\n");
    let parallel = "for i in 1 2 3 4; do $SANDBOX sh -c \"echo start; sleep 0.$i; echo end\" & \
                    done > log 2>&1; wait; sort log | uniq -c | tr -s ' '";
    assert_eq!(run_script(&fixture, parallel), " 4 end\n 4 start\n");
}

#[test]
fn a_file_at_a_denied_path_changes_the_exit_code() {
    let fixture = Fixture::new(OPEN);
    let (code, _, stderr) = fixture.run(&["-c", "ln -s .mcp.json l; echo evil > l"]);
    assert_eq!(code, 125, "{stderr}");
    assert!(stderr.contains("/.mcp.json was created although the policy denies it"), "{stderr}");
    assert!(!fixture.dir.path().join(".mcp.json").exists());
}

/// Returns the state of a process (`proc_pid_stat(5)`).
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn without_a_terminal_a_stop_reaches_the_command() {
    let fixture = Fixture::new(OPEN);
    let count = "echo begun; for i in {1..600}; do echo $i > ticks; sleep 0.02; done";
    // In a writable directory, the weaker engine could not protect the settings.
    let place = Fixture::new(OPEN);
    for engine in ["native", "landlock"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent-tools"));
        command.args(["sandbox", "-c", count, "--settings"]);
        command.arg(place.dir.path().join("settings.json")).current_dir(fixture.dir.path());
        std::fs::remove_file(fixture.dir.path().join("settings.json")).ok();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("HOME", place.dir.path());
        let mut child = command.env("AGENT_TOOLS_ENGINE", engine).spawn().unwrap();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut String::new()).unwrap();
        let signal = |name: &str| {
            let sent = Command::new("kill").args([name, &child.id().to_string()]).status();
            assert!(sent.unwrap().success());
        };
        let ticks = || std::fs::read_to_string(fixture.dir.path().join("ticks")).ok();
        let changes = || {
            let before = ticks();
            (0..20).any(|_| {
                std::thread::sleep(Duration::from_millis(20));
                ticks() != before
            })
        };
        assert!(changes(), "{engine}");
        signal("-TSTP");
        let begun = Instant::now();
        while state(child.id()) != Some('T') {
            assert!(begun.elapsed() < Duration::from_secs(30), "{engine}: not stopped");
        }
        assert!(!changes(), "{engine}: the command runs on");
        signal("-CONT");
        assert!(changes(), "{engine}: the command stays stopped");
        signal("-TERM");
        assert_eq!(child.wait().unwrap().code(), Some(143));
    }
}
