//! `sandbox --control-fd`, beside the real srt with the same lines.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::origin::Origin;
use crate::cli::Cli;

const PATIENCE: Duration = Duration::from_secs(60);

/// A command that answers each line of its input with the outcome of one request.
struct Running {
    child: Child,
    control: std::fs::File,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: Receiver<String>,
}

/// The pattern of the host and the request of one engine.
struct Target {
    host: String,
    request: String,
}

fn settings(allowed: &[&str], denied: &[&str]) -> String {
    serde_json::json!({
        "network": {"allowedDomains": allowed, "deniedDomains": denied},
        "filesystem": {"denyRead": [], "allowWrite": [], "denyWrite": []},
    })
    .to_string()
}

/// Starts a program whose descriptor `number` is the end of a pipe to the test.
fn start(dir: &Path, mut program: Command, number: u32, script: &str) -> Running {
    let fifo = dir.join(format!("control-{number}"));
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("exec {number}< \"$0\"; exec \"$@\" -c \"$SCRIPT\"")]).arg(&fifo);
    bash.arg(program.get_program()).args(program.get_args()).current_dir(dir);
    bash.env("SCRIPT", script);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    program = bash;
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    let control = std::fs::File::options().write(true).open(&fifo).unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let errors = BufReader::new(child.stderr.take().unwrap());
    let (sender, stderr) = channel();
    std::thread::spawn(move || {
        for line in errors.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    Running { child, control, stdin, stdout: BufReader::new(stdout), stderr }
}

impl Running {
    fn line(&mut self, line: &str) {
        self.control.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Returns the outcome of one request.
    fn answer(&mut self) -> String {
        self.stdin.write_all(b"go\n").unwrap();
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// Sends requests until one has this outcome.
    #[track_caller]
    fn becomes(&mut self, expected: &str) {
        let begun = Instant::now();
        while self.answer() != expected {
            let errors: Vec<String> = self.stderr.try_iter().collect();
            assert!(begun.elapsed() < PATIENCE, "never {expected}: {errors:?}");
        }
    }

    /// Waits for a line on standard error.
    #[track_caller]
    fn reports(&mut self, part: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let line = self.stderr.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {part:?} in {seen:?}"));
            if line.to_lowercase().contains(part) {
                return line;
            }
            // A line on the descriptor can allow its name.
            assert!(!line.contains("a fixed address has no effect"), "{line}");
            seen.push(line);
        }
    }
}

fn script(target: &Target) -> String {
    let request = &target.request;
    format!(
        "while read -r _; do if {request} > /dev/null 2>&1; then echo yes; else echo no; fi; done; \
         echo x > written; echo end"
    )
}

/// Sends the same lines to an engine, and checks that each has the same effect.
fn check(dir: &Path, program: Command, target: &Target) {
    let host = target.host.as_str();
    let mut running = start(dir, program, 3, &script(target));
    assert_eq!(running.answer(), "no");
    running.line(&settings(&[host], &[]));
    running.becomes("yes");
    // A blank line means nothing, and an invalid one changes nothing.
    let partial = format!(r#"{{"network":{{"allowedDomains":[],"deniedDomains":["{host}"]}}}}"#);
    for invalid in ["{", "null", "[]", &settings(&["*"], &[]), &partial] {
        running.line("");
        running.line(invalid);
        let report = running.reports("control fd 3");
        assert!(report.to_lowercase().starts_with("invalid") || report.contains(": invalid"));
        assert!(report.contains("ignored"), "{report}");
        assert_eq!(running.answer(), "yes", "{invalid}");
    }
    running.line(&settings(&[host], &[host]));
    running.becomes("no");
    // Only the lists of hosts are live.
    let writable = settings(&[host], &[]).replace(r#""allowWrite":[]"#, r#""allowWrite":["."]"#);
    running.line(&writable);
    running.becomes("yes");
    let Running { mut child, control, stdin, mut stdout, stderr, .. } = running;
    // The end of the input ends nothing.
    drop(control);
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "end\n", "{:?}", stderr.try_iter().collect::<Vec<_>>());
    assert!(child.wait().unwrap().success());
    assert!(!dir.join("written").exists());
}

/// The command `sandbox` with a channel.
fn sandbox(cli: &Cli, origin: &Origin, number: u32) -> Command {
    let file = cli.write("settings.json", &settings(&[], &[]));
    let resolve = format!("origin.test:80:127.0.0.1:{}", origin.port);
    let number = number.to_string();
    let args = ["sandbox", "-s", file.to_str().unwrap(), "--control-fd", &number, "--resolve"];
    cli.command(&[&args[..], &[&resolve]].concat())
}

fn target() -> Target {
    let request = "curl -sf -m 20 http://origin.test/".to_owned();
    Target { host: "origin.test".to_owned(), request }
}

#[test]
fn lines_change_the_hosts_of_a_running_command() {
    let (cli, origin) = (Cli::new(), Origin::start());
    check(cli.dir(), sandbox(&cli, &origin, 3), &target());
}

#[test]
fn srt_takes_the_same_lines_in_the_same_way() {
    const WHAT: &str = "the same lines for the real srt";
    let Some(package) = std::env::var_os("SRT_PACKAGE_DIR").map(PathBuf::from) else {
        return testkit::skipped(WHAT, "`cargo xtask peers` installs it");
    };
    if !["bwrap", "socat", "rg"].iter().all(|tool| Path::new("/usr/bin").join(tool).exists()) {
        return testkit::skipped(WHAT, "packages bubblewrap, socat and ripgrep");
    }
    let (cli, origin) = (Cli::new(), Origin::start());
    let node: OsString = std::env::var_os("NODE22").unwrap_or_else(|| "node".into());
    let file = cli.write("settings.json", &settings(&[], &[]));
    let mut srt = Command::new(node);
    srt.arg(package.join("dist/cli.js")).arg("-s").arg(file).args(["--control-fd", "3"]);
    srt.env("HOME", cli.dir());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"] {
        srt.env_remove(name).env_remove(name.to_lowercase());
    }
    let at = format!("127.0.0.1:{}", origin.port);
    let request = format!("curl -sf -m 20 --noproxy '' -x \"$HTTP_PROXY\" http://{at}/");
    check(cli.dir(), srt, &Target { host: at, request });
}

#[test]
fn no_command_gets_the_descriptor_and_open_connections_are_cut() {
    let (cli, origin) = (Cli::new(), Origin::start());
    let mut target = target();
    target.request = "curl -sf -m 60 http://origin.test/slow".to_owned();
    let script = format!("[ -e /proc/self/fd/20 ] && echo leak; {}", script(&target));
    let mut running = start(cli.dir(), sandbox(&cli, &origin, 20), 20, &script);
    running.line(&settings(&["origin.test"], &[]));
    let before = Instant::now();
    running.stdin.write_all(b"go\n").unwrap();
    while origin.requests().is_empty() {
        assert!(before.elapsed() < PATIENCE);
        // The line may not be there yet.
        if running.child.try_wait().unwrap().is_some() {
            panic!("{:?}", running.stderr.try_iter().collect::<Vec<_>>());
        }
        std::thread::yield_now();
    }
    running.line(&settings(&[], &[]));
    let mut answer = String::new();
    running.stdout.read_line(&mut answer).unwrap();
    assert_eq!(answer, "no\n");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
}

#[test]
fn a_descriptor_that_cannot_be_used_runs_nothing() {
    let cli = Cli::new();
    let program = env!("CARGO_BIN_EXE_agent-tools");
    let run = |script: &str| {
        let mut bash = cli.command(&[]);
        bash = {
            let mut other = Command::new("bash");
            other.args(["-c", script, program]).current_dir(cli.dir());
            other.envs(bash.get_envs().filter_map(|(name, value)| Some((name, value?))));
            other
        };
        let ran = bash.stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.status.code().unwrap(), text(&ran.stdout), text(&ran.stderr))
    };
    let start = "\"$0\" sandbox --control-fd";
    for (script, code, problem) in [
        (format!("{start} 2 echo ran"), 2, "expected the number of a descriptor, 3 or above"),
        (format!("{start} 7 echo ran"), 125, "--control-fd 7 cannot be used: it is not open"),
        (format!("{start} 9 echo ran"), 125, "--control-fd 9 cannot be used: it is not open"),
        (format!("{start} 3 echo ran 3> f"), 125, "it is not open for reading"),
        (format!("{start} 3 echo ran 3< ."), 125, "it is a directory"),
        ("\"$0\" --engine landlock sandbox --control-fd 3 echo ran 3< f".to_owned(), 125, "engine"),
    ] {
        let (found, stdout, stderr) = run(&script);
        assert_eq!((found, stdout.as_str()), (code, ""), "{script}: {stderr}");
        assert!(stderr.contains(problem), "{script}: {stderr}");
    }
    // Address 0 of the shell cannot be read. A command that ignores the request to end is killed.
    let script = format!("{start} 3 -c \"trap '' TERM; sleep 1000\" 3< /proc/$$/mem; exit $?");
    let (code, _, stderr) = run(&script);
    assert_eq!(code, 125, "{stderr}");
    assert!(stderr.contains("control fd 3 failed before its first line"), "{stderr}");
    // A file is read to its end, and the command does not wait for a pipe.
    cli.write("lines", &format!("{}\n", settings(&["a.test"], &[])));
    assert_eq!(run(&format!("{start} 3 echo ran 3< lines")).1, "ran\n");
    assert_eq!(run(&format!("mkfifo pipe; {start} 3 echo ran 3<> pipe")).1, "ran\n");
}

#[test]
fn a_project_without_a_network_gets_none_by_a_line() {
    let (cli, origin) = (Cli::new(), Origin::start());
    cli.write(".agent-tools.toml", "no-network = true\n");
    let mut running = start(cli.dir(), sandbox(&cli, &origin, 3), 3, &script(&target()));
    running.reports("warning: no-network in ");
    running.line(&settings(&["origin.test"], &[]));
    running.line("{");
    running.reports("control fd 3");
    assert_eq!(running.answer(), "no");
    drop((running.control, running.stdin));
    running.child.wait().unwrap();
}
