//! A store that accepts connections and does not answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::json;
use testkit::{S3Server, s3_environment};

use crate::cli::Cli;
use crate::mcp::Server;
use crate::s3::machine;

/// Limit of everything that must not wait for the timeouts of the client.
const BOUND: Duration = Duration::from_secs(20);

/// Server between a machine and its store, which passes nothing on while it is silent.
struct Proxy {
    url: String,
    is_silent: Arc<AtomicBool>,
}

impl Proxy {
    fn start(to: &S3Server) -> Self {
        let (_, target) = &to.environment()[3];
        let target = target.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let is_silent = Arc::new(AtomicBool::default());
        let silent = Arc::clone(&is_silent);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
                let streams = (client.try_clone().unwrap(), server.try_clone().unwrap());
                for (from, to) in [(client, server), (streams.1, streams.0)] {
                    let silent = Arc::clone(&silent);
                    std::thread::spawn(move || pass_on(from, to, &silent));
                }
            }
        });
        Self { url, is_silent }
    }

    fn machine(&self) -> Cli {
        let url = format!("s3://{}/general", S3Server::BUCKET);
        Cli::with_store(&url, &s3_environment(self.url.clone()))
    }

    fn set_silent(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::Relaxed);
    }
}

/// Passes bytes on. A connection that loses some while the proxy is silent ends afterwards.
fn pass_on(mut from: TcpStream, mut to: TcpStream, is_silent: &AtomicBool) {
    let mut bytes = [0; 65_536];
    let mut has_lost = false;
    from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    loop {
        let read = from.read(&mut bytes);
        let is_silent = is_silent.load(Ordering::Relaxed);
        let goes_on = match read {
            Ok(0) => false,
            Ok(_) if is_silent => {
                has_lost = true;
                true
            }
            Ok(count) => !has_lost && to.write_all(&bytes[..count]).is_ok(),
            Err(error) => error.kind() == ErrorKind::WouldBlock && (is_silent || !has_lost),
        };
        if !goes_on {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_close_through_the_server_of_another_process_waits_as_long_as_it_says() {
    let store = S3Server::start();
    let proxy = Proxy::start(&store);
    let cli = proxy.machine();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    server.call("bash", json!({ "command": "echo 1 > f" }));
    proxy.set_silent(true);
    std::fs::write(cli.home().join("sessions/m/f"), "2\n").unwrap();
    let begun = Instant::now();
    let refused = cli.run(&["session", "close", "m", "--wait", "500ms"]);
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    assert!(refused.code == 1 && refused.stderr.contains("--discard"), "{}", refused.stderr);
    proxy.set_silent(false);
    cli.run(&["session", "close", "m"]).ok();
    assert_eq!(cli.run(&["read-file", "--session", "m", "f"]).ok().stdout, "2\n");
}

#[test]
fn discarding_waits_for_a_silent_store_only_for_seconds() {
    for is_served in [false, true] {
        let store = S3Server::start();
        let proxy = Proxy::start(&store);
        let cli = proxy.machine();
        let mut server = is_served.then(|| Server::start_with(&cli, &["mcp", "--session", "m"]));
        match &mut server {
            Some(server) => drop(server.call("bash", json!({ "command": "echo 1 > f" }))),
            None => drop(cli.run(&["bash", "--session", "m", "echo 1 > f"]).ok()),
        }
        proxy.set_silent(true);
        std::fs::write(cli.home().join("sessions/m/f"), "2\n").unwrap();
        let begun = Instant::now();
        cli.run(&["session", "close", "m", "--discard"]).ok();
        assert!(begun.elapsed() < BOUND, "{is_served}: {:?}", begun.elapsed());
        assert!(!cli.home().join("sessions/m").exists());
    }
}

/// Returns a machine whose store accepts connections and never answers, with the server.
fn machine_of_a_silent_store() -> (Cli, TcpListener, String) {
    // The system accepts connections for a socket that listens.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    (Cli::with_store("s3://bucket/general", &s3_environment(url.clone())), server, url)
}

#[test]
fn opening_gives_up_a_store_that_accepts_connections_and_never_answers() {
    let (cli, _server, url) = machine_of_a_silent_store();
    let begun = Instant::now();
    for tool in [&["bash", "--wait", "300ms", "true"][..], &["read-file", "--wait", "300ms", "f"]] {
        let ran = cli.run(tool);
        assert_eq!(ran.code, if tool[0] == "bash" { 125 } else { 1 }, "{}", ran.stderr);
        for part in [&*format!("s3://bucket at {url}"), "did not answer within 300ms"] {
            assert!(ran.stderr.contains(part), "{}", ran.stderr);
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(!cli.home().join("sessions/default").exists());
}

#[test]
fn a_command_for_the_history_of_a_session_gives_a_silent_store_up() {
    let store = S3Server::start();
    let proxy = Proxy::start(&store);
    let cli = proxy.machine();
    cli.run(&["bash", "echo 1 > f"]).ok();
    proxy.set_silent(true);
    let begun = Instant::now();
    for command in [
        &["history", "default"][..],
        &["restore", "default", "f", "--at", "1"],
        &["undelete", "default"],
        &["gc", "default"],
        &["pull", "default", "general/user_local/sessions/default/f"],
        &["delete", "default", "--yes"],
    ] {
        let ran = cli.run(&[&["session"], command, &["--wait", "300ms"]].concat());
        assert_eq!(ran.code, 1, "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("300ms"), "{command:?}: {}", ran.stderr);
    }
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    proxy.set_silent(false);
    assert_eq!(cli.run(&["read-file", "f"]).ok().stdout, "1\n");
}

#[test]
fn a_session_that_is_here_opens_although_its_store_never_answers() {
    let server = S3Server::start();
    let mut cli = machine(&server);
    cli.run(&["bash", "echo 1 > f"]).ok();
    let (silent, _server, _) = machine_of_a_silent_store();
    cli.environment = silent.environment;
    let begun = Instant::now();
    let ran = cli.run(&["bash", "--wait", "300ms", "cat f"]).ok();
    assert_eq!(ran.stdout, "1\n");
    assert!(ran.stderr.contains("did not answer within 300ms"), "{}", ran.stderr);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

/// Runs the command with a terminal as its standard error. Returns all that the terminal shows.
fn shown_on_terminal(cli: &Cli, args: &[&str]) -> String {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags).unwrap();
    unlockpt(&terminal).unwrap();
    let inner = ioctl_tiocgptpeer(&terminal, flags).unwrap();
    let mut command = cli.command(args);
    command.env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::null()).stderr(inner);
    let mut child = command.spawn().unwrap();
    drop(command);
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    // The terminal has an error once no process has it open.
    while let Ok(count @ 1..) = rustix::io::read(&terminal, &mut buffer) {
        shown.extend(&buffer[..count]);
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn long_work_is_shown_on_a_terminal_unless_quiet_and_not_in_a_pipe() {
    let store = S3Server::start();
    let proxy = Proxy::start(&store);
    let cli = proxy.machine();
    cli.run(&["bash", "--session", "m", "echo 1 > f"]).ok();
    proxy.set_silent(true);
    let close = ["session", "close", "m", "--wait", "1s"];
    let shown = shown_on_terminal(&cli, &close);
    assert!(shown.contains("closing") && shown.contains("--discard"), "{shown}");
    let quiet = shown_on_terminal(&cli, &[&["--quiet"], &close[..]].concat());
    assert!(!quiet.contains("closing") && quiet.contains("--discard"), "{quiet}");
    let piped = cli.run(&close).stderr;
    assert!(!piped.contains("closing") && piped.contains("--discard"), "{piped}");
    let opened = shown_on_terminal(&cli, &["ls", "--session", "new", "--wait", "1s"]);
    assert!(opened.contains("opening"), "{opened}");
}
