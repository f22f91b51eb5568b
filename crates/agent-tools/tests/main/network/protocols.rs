//! Protocols other than HTTP/1.1 requests, each with the real client.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use testkit::skipped;

use super::masked::VALUE;
use super::programs::{AUTHORITY, Process, Programs, Python, Server, free_port, script};
use super::tools::make_repository;

/// Starts the server of WebSocket and gRPC, and returns its ports: of WebSocket without and with
/// TLS, and of gRPC likewise.
fn start_server(python: &Python, dir: &Path, identity: &super::authority::Identity) -> Ports {
    let certificate = testkit::write_file(dir, "certificate.pem", &identity.certificate);
    let key = testkit::write_file(dir, "key.pem", &identity.key);
    let mut server = Command::new(python.program());
    server.arg("tests/network/server.py").arg(certificate).arg(key).arg(dir.join(AUTHORIZATIONS));
    server.stdin(Stdio::piped()).stdout(Stdio::piped()).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut process = Process(server.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ports: Vec<u16> = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
    Ports { ports, _process: process }
}

/// The file with the values of `authorization` that the server received.
const AUTHORIZATIONS: &str = "authorizations";

struct Ports {
    ports: Vec<u16>,
    _process: Process,
}

#[tokio::test]
async fn websocket_and_grpc_and_event_streams() {
    let Some(python) = Python::find("clients of WebSocket and gRPC") else { return };
    let identity = super::authority::Identity::new();
    let dir = tempfile::tempdir().unwrap();
    let server = start_server(&python, dir.path(), &identity);
    let [websocket, websocket_tls, grpc, grpc_tls] = server.ports[..] else {
        panic!("{:?}", server.ports)
    };
    let servers: [Server; 4] =
        [(8080, websocket), (8443, websocket_tls), (50051, grpc), (50052, grpc_tls)];
    let programs = Programs::open_trusting(&identity.authority, &servers, python.readable()).await;
    programs.session.write_file("client.py", &script("client.py")).await.unwrap();
    programs.session.write_file("servers.pem", identity.authority.as_bytes()).await.unwrap();
    let client = format!("{} client.py", python.program().display());

    for (scheme, port) in [("ws", 8080), ("wss", 8443)] {
        let command = format!("{client} websocket {scheme}://HOST:{port}/ servers.pem");
        programs.check(&command, port, "200 hello 100000").await;
    }
    // The status and the metadata after the messages are trailers of HTTP/2.
    for (scheme, port) in [("http", 50051), ("https", 50052)] {
        let command = format!("{client} grpc {scheme}://HOST:{port}/ servers.pem");
        programs.check(&command, port, "200 ['one', 'two'] ['hello']").await;
    }
    // The gate reads HTTP/2 without TLS too, and refuses in it.
    let curl = "curl -s -w '%{http_version} %{http_code}' --http2-prior-knowledge";
    let request = "-X POST -H 'Content-Type: application/grpc' -H 'TE: trailers'";
    for (url, expected) in [
        (&*format!("{request} http://origin.test:50051/x"), "2 200"),
        ("-H 'Host: other.test:50051' http://origin.test:50051/x", "2 421"),
        ("http://denied.test:50051/x", "2 403"),
    ] {
        let ran = programs.session.bash(&format!("{curl} {url}")).await.unwrap();
        assert!(ran.stdout.ends_with(expected), "{url}: {}{}", ran.stdout, ran.stderr);
    }
    let events = format!("{client} events URL/events {AUTHORITY}");
    programs.check_web(&events, "200 one two three").await;

    // The gate reads all of them.
    programs.mask();
    for (url, expected) in [
        ("websocket wss://origin.test:8443/", "200 hello 100000"),
        ("grpc https://origin.test:50052", "200 ['one', 'two'] ['hello']"),
    ] {
        let ran = programs.session.bash(&format!("{client} {url}")).await.unwrap();
        assert!(ran.stdout.contains(expected), "{url}: {}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.denied, [], "{url}");
    }
    let values = std::fs::read_to_string(dir.path().join(AUTHORIZATIONS)).unwrap();
    assert_eq!(values, format!("Bearer {VALUE}\n").repeat(2));
    programs.check_masked(&format!("{client} events URL/events"), "200 one two three").await;
}

/// On port 80, the gate reads requests, and must pass what both ends agree on instead.
#[tokio::test]
async fn websocket_and_grpc_on_the_port_of_http() {
    let Some(python) = Python::find("clients of WebSocket and gRPC") else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = start_server(&python, dir.path(), &super::authority::Identity::new());
    for (client, port, expected) in [
        ("websocket ws", server.ports[0], "200 hello 100000"),
        ("grpc http", server.ports[2], "200 ['one', 'two'] ['hello']"),
    ] {
        let programs = Programs::open(&[(80, port)], python.readable()).await;
        programs.session.write_file("client.py", &script("client.py")).await.unwrap();
        let program = python.program();
        let command = format!("{} client.py {client}://HOST:80/ {AUTHORITY}", program.display());
        programs.check(&command, 80, expected).await;
    }
}

/// Answers each query of PostgreSQL with one row (the protocol of version 3, simple queries).
fn serve_postgres(mut client: TcpStream) -> std::io::Result<()> {
    /// Requests for encryption by TLS and GSSAPI.
    const ENCRYPTIONS: [u32; 2] = [80_877_103, 80_877_104];
    let number = |client: &mut TcpStream| {
        let mut bytes = [0; 4];
        client.read_exact(&mut bytes).map(|()| u32::from_be_bytes(bytes))
    };
    let message = |client: &mut TcpStream, kind: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        client.write_all(&[&[kind][..], &length, body].concat())
    };
    loop {
        let (length, version) = (number(&mut client)?, number(&mut client)?);
        if ENCRYPTIONS.contains(&version) {
            client.write_all(b"N")?;
            continue;
        }
        std::io::copy(&mut (&client).take(u64::from(length) - 8), &mut std::io::sink())?;
        break;
    }
    message(&mut client, b'R', &[0; 4])?;
    message(&mut client, b'Z', b"I")?;
    loop {
        let mut kind = [0];
        client.read_exact(&mut kind)?;
        let length = number(&mut client)?;
        std::io::copy(&mut (&client).take(u64::from(length) - 4), &mut std::io::sink())?;
        if kind != *b"Q" {
            return Ok(());
        }
        // One column of text with the name `a`.
        let column = b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
        message(&mut client, b'T', column)?;
        message(&mut client, b'D', b"\0\x01\0\0\0\x0242")?;
        message(&mut client, b'C', b"SELECT 1\0")?;
        message(&mut client, b'Z', b"I")?;
    }
}

#[tokio::test]
async fn psql() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // The thread ends with the test process.
    std::thread::spawn(move || listener.incoming().flatten().try_for_each(serve_postgres));
    let programs = Programs::open(&[(5432, port)], Vec::new()).await;
    if programs.has("psql", "postgresql-client").await {
        programs.check("psql -h HOST -U ann -d db -Atc 'select 6*7'", 5432, "42").await;
    }
}

/// Starts an SSH server that accepts a key of its own, and returns the private one.
fn start_ssh(dir: &Path) -> Option<(Process, u16, Vec<u8>)> {
    const SERVER: &str = "/usr/sbin/sshd";
    let run = |program: &str, arguments: &str| {
        let mut command = Command::new(program);
        command.args(arguments.split(' ')).current_dir(dir);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    for name in ["host", "user"] {
        let mut made = run("ssh-keygen", "-q -t ed25519 -f");
        made.arg(name).args(["-N", ""]).status().ok().filter(|made| made.success())?;
    }
    let port = free_port();
    let dir_text = dir.display();
    let settings = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {dir_text}/host\nPidFile none\n\
         AuthorizedKeysFile {dir_text}/user.pub\nStrictModes no\nUsePAM no\n"
    );
    testkit::write_file(dir, "settings", settings);
    // The superuser's server needs a directory that Debian creates with its service.
    let mut server = if rustix::process::geteuid().is_root() && !Path::new("/run/sshd").exists() {
        let script = format!(
            "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && \
             exec {SERVER} -D -f {dir_text}/settings"
        );
        let mut server = run("unshare", "--mount --propagation private sh -c");
        server.arg(script);
        server
    } else {
        run(SERVER, &format!("-D -f {dir_text}/settings"))
    };
    let started: Child = Path::new(SERVER).exists().then(|| server.spawn().ok()).flatten()?;
    let process = Process(started);
    for _ in 0..500 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some((process, port, std::fs::read(dir.join("user")).unwrap()));
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the SSH server does not listen");
}

#[tokio::test]
async fn git_over_https_and_ssh() {
    let keys = tempfile::tempdir().unwrap();
    let Some((_server, port, key)) = start_ssh(keys.path()) else {
        return skipped("git over SSH", "install openssh-server and openssh-client");
    };
    let programs = Programs::open(&[(22, port)], Vec::new()).await;
    if !make_repository(&programs.origin) {
        return;
    }
    let clone =
        "rm -rf clone && git clone --quiet FROM/r.git clone && git -C clone log --format=%s";
    let https =
        format!("export GIT_SSL_CAINFO=$PWD/{AUTHORITY}; {clone}").replace("FROM", "https://HOST");
    programs.check(&https, 443, "first").await;

    programs.session.write_file("key", &key).await.unwrap();
    let key = programs.session.dir().join("key");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let user = rustix::process::geteuid().as_raw();
    let user = std::fs::read_to_string("/etc/passwd")
        .unwrap()
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[2] == user.to_string())
        .map(|fields| fields[0].to_owned())
        .unwrap();
    let root = programs.origin.dir.path().display();
    let ssh = "ssh -i key -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=hosts";
    let ssh = format!("export GIT_SSH_COMMAND='{ssh}'; {clone}")
        .replace("FROM", &format!("ssh://{user}@HOST{root}"));
    programs.check(&ssh, 22, "first").await;
    let refused = programs.session.bash(&ssh.replace("HOST", "denied.test")).await.unwrap();
    let reason = "Blocked by allowedDomains: denied.test:22: no entry of allowedDomains covers it; \
                  add denied.test to network.allowedDomains";
    assert!(refused.stderr.contains(reason), "{}", refused.stderr);
}
