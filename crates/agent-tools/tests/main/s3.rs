//! The whole flow against a server that speaks S3 and checks signatures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

use crate::command::Cli;

const BUCKET: &str = "bucket";

/// An S3 server on loopback with one bucket, which lives as long as this value.
struct Server {
    address: SocketAddr,
    _root: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        service.set_auth(SimpleAuth::from_single("access", "secret"));
        let service = service.build();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self { address, _root: root, _runtime: runtime }
    }

    fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ACCESS_KEY_ID", "access".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
        ]
    }

    /// A machine of its own: another home, the same bucket.
    fn machine(&self) -> Cli {
        Cli::with_store(&format!("s3://{BUCKET}/general"), &self.environment())
    }
}

/// A plain GET, without any credentials: the status and the body.
fn get(url: &str) -> (u16, Vec<u8>) {
    let url = url::Url::parse(url).unwrap();
    let host = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(&host).unwrap();
    let target = &url[url::Position::BeforePath..];
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
    (status, answer[head + 4..].to_vec())
}

#[test]
fn skills_go_in_artifacts_come_out_and_another_machine_restores_them() {
    let server = Server::start();
    let first = server.machine();
    let skill = first.write(
        "src/SKILL.md",
        "---\nname: greet\ndescription: Says hello. Use it to greet.\n---\n",
    );
    first.write("src/hello.sh", "echo hello > \"$1\"");
    first.run(&["skill", "publish", skill.parent().unwrap().to_str().unwrap()]).ok();

    let command = "sh skills/greet/hello.sh 'a b é+&%#.txt'; head -c 70000 /dev/urandom > bytes; base64 -w0 bytes";
    let result = first.run(&["--json", "bash", "--skill", "greet@1", command]).ok().json();
    let artifacts = result["artifacts"].as_array().unwrap();
    let artifact =
        |name: &str| artifacts.iter().find(|artifact| artifact["relativePath"] == name).unwrap();
    assert_eq!(artifacts.len(), 2, "{result}");
    let odd = artifact("a b é+&%#.txt");
    assert_eq!(odd["key"], "bucket/general/user_local/sessions/default/a b é+&%#.txt");
    assert_eq!(get(odd["url"].as_str().unwrap()), (200, b"hello\n".to_vec()));

    let link = artifact("bytes")["url"].as_str().unwrap();
    let local = std::fs::read(first.home().join("sessions/default/bytes")).unwrap();
    assert_eq!(get(link), (200, local.clone()), "byte for byte");
    assert_eq!(get(&link.replace("/bytes?", "/other?")).0, 403, "a link opens one object only");

    let second = server.machine();
    assert_eq!(second.run(&["bash", "cat 'a b é+&%#.txt'"]).ok().stdout, "hello\n");
    assert_eq!(std::fs::read(second.home().join("sessions/default/bytes")).unwrap(), local);
    second.run(&["bash", "rm bytes; echo 2 > new"]).ok();
    second.run(&["session", "close", "default"]).ok();
    let third = server.machine();
    assert!(!third.run(&["bash", "ls"]).ok().stdout.contains("skills\n"));
    assert_eq!(third.run(&["read-file", "new"]).ok().stdout, "2\n");
}

#[test]
fn wrong_credentials_are_said_and_nothing_is_half_done() {
    let server = Server::start();
    let mut cli = server.machine();
    cli.environment.retain(|(name, _)| name != "AWS_SECRET_ACCESS_KEY");
    cli.environment.push(("AWS_SECRET_ACCESS_KEY".into(), "wrong-and-private".into()));
    let ran = cli.run(&["bash", "true"]);
    assert!(ran.code == 125 && ran.stderr.contains("store"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("wrong-and-private"));
    cli.environment.retain(|(name, _)| name != "AWS_SECRET_ACCESS_KEY");
    let without = cli.run(&["bash", "true"]);
    assert!(
        without.code == 125 && without.stderr.contains("AWS_SECRET_ACCESS_KEY"),
        "{}",
        without.stderr
    );
}

#[test]
fn a_store_that_fails_later_leaves_the_change_pending_and_close_refuses() {
    let server = Server::start();
    let mut cli = server.machine();
    cli.run(&["bash", "echo 1 > stored"]).ok();
    let good = std::mem::take(&mut cli.environment);
    cli.environment = good.clone();
    cli.environment.retain(|(name, _)| name != "AWS_ENDPOINT");
    cli.environment.push(("AWS_ENDPOINT".into(), "http://127.0.0.1:1".into()));
    let ran = cli.run(&["--json", "bash", "echo 2 > later; cat later"]).ok();
    assert_eq!(ran.json()["pending"][0]["relativePath"], "later", "{}", ran.stdout);
    let closed = cli.run(&["session", "close", "default"]);
    assert!(closed.code == 1 && closed.stderr.contains("later"), "{}", closed.stderr);
    assert!(cli.home().join("sessions/default/later").exists());
    cli.environment = good;
    cli.run(&["session", "close", "default"]).ok();
    assert_eq!(server.machine().run(&["bash", "cat stored later"]).ok().stdout, "1\n2\n");
}
