//! Real programs in a session: each reaches an allowed host, and is refused another one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent_tools::NetworkSpec;
use testkit::skipped;

use super::origin::Origin;
use super::{open, refused, to};
use crate::session::{Fixture, spec};

/// Checks that a program of the session prints `expected` for `http://origin.test/`, and that it
/// fails for `http://denied.test/`, which the result explains. `HOST` stands for the host in the
/// command.
async fn check(origin: &Origin, program: &str, remedy: &str, command: &str, expected: &str) {
    let fixture = Fixture::new();
    let session = open(&fixture, "s1", to(origin)).await;
    if session.bash(&format!("command -v {program}")).await.unwrap().exit_code != 0 {
        return skipped(program, remedy);
    }
    let allowed = session.bash(&command.replace("HOST", "origin.test")).await.unwrap();
    assert_eq!(allowed.exit_code, 0, "{command}: {}{}", allowed.stdout, allowed.stderr);
    assert!(allowed.stdout.contains(expected), "{command}: {}{}", allowed.stdout, allowed.stderr);
    assert_eq!(allowed.denied, [], "{command}");

    let count = origin.connections();
    let denied = session.bash(&command.replace("HOST", "denied.test")).await.unwrap();
    assert_ne!(denied.exit_code, 0, "{command}: {}{}", denied.stdout, denied.stderr);
    assert_eq!(refused(&denied), ["denied.test:80"], "{command}: {}", denied.stderr);
    assert_eq!(origin.connections(), count, "no byte reaches the server");
    let denial = &denied.denied[0];
    assert_eq!(denial.rule, "no entry of allowedDomains covers it");
    let remedy = "use --allow-host denied.test:80 (network.allowedDomains in settings)";
    assert_eq!(denial.remedy.as_deref(), Some(remedy));
}

#[tokio::test]
async fn curl_and_wget_and_bash() {
    let origin = Origin::start();
    check(&origin, "curl", "install curl", "curl -sSf http://HOST/", "hello").await;
    check(&origin, "wget", "install wget", "wget -qO- http://HOST/", "hello").await;
    // Without a library for HTTP and DNS.
    let raw = "exec 3<>/dev/tcp/HOST/80 && \
               printf 'GET / HTTP/1.0\\r\\nHost: HOST\\r\\n\\r\\n' >&3 && cat <&3 | grep hello";
    check(&origin, "bash", "install bash", raw, "hello").await;
}

/// Asks servers of both versions for a name, and prints the lengths of their answers.
const ASK: &str = r#"
import socket
query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\6origin\4test\0\0\1\0\1"
for address in ["8.8.8.8", "127.0.0.53", "2001:db8::53", "::1"]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    client = socket.socket(family, socket.SOCK_DGRAM)
    client.settimeout(10)
    client.connect((address, 53))
    client.send(query)
    print(len(client.recv(512)))
"#;

#[tokio::test]
async fn every_server_of_names_answers() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let session = open(&fixture, "s1", to(&origin)).await;
    session.write_file("ask.py", ASK.as_bytes()).await.unwrap();
    let ran = session.bash("command -v python3 >/dev/null || exit 9; python3 ask.py").await;
    let ran = ran.unwrap();
    if ran.exit_code == 9 {
        return skipped("python3", "install python3");
    }
    assert_eq!(ran.stdout, "45\n".repeat(4), "{}", ran.stderr);
}

#[tokio::test]
async fn python_and_pip() {
    let origin = Origin::start();
    let urllib = "python3 -c 'import urllib.request as r; \
                  print(r.urlopen(\"http://HOST/\").read().decode())'";
    check(&origin, "python3", "install python3", urllib, "hello").await;
    if !write_wheel(&origin) {
        return;
    }
    let pip = "python3 -m pip download -q --no-deps --no-cache-dir --no-input \
               --disable-pip-version-check --isolated --trusted-host HOST \
               --index-url http://HOST/simple/ probe && ls";
    check(&origin, "pip", "install python3-pip", pip, "probe-1.0-py3-none-any.whl").await;
}

/// Writes an index with a wheel for the server. Returns whether there is a Python with pip, and
/// reports it otherwise.
pub(super) fn write_wheel(origin: &Origin) -> bool {
    const SCRIPT: &str = r"
import pip, sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    for name, lines in [
        ('METADATA', ['Metadata-Version: 2.1', 'Name: probe', 'Version: 1.0']),
        ('WHEEL', ['Wheel-Version: 1.0', 'Root-Is-Purelib: true', 'Tag: py3-none-any']),
        ('RECORD', []),
    ]:
        wheel.writestr('probe-1.0.dist-info/' + name, '\n'.join(lines + ['']))
";
    let wheel = origin.dir.path().join("probe-1.0-py3-none-any.whl");
    origin.write("simple/probe/index.html", "<a href=\"/probe-1.0-py3-none-any.whl\">probe</a>");
    let made = Command::new("/usr/bin/python3").arg("-c").arg(SCRIPT).arg(wheel).output();
    let is_made = made.is_ok_and(|made| made.status.success());
    if !is_made {
        skipped("pip", "install python3-pip");
    }
    is_made
}

#[tokio::test]
async fn node_and_npm() {
    let origin = Origin::start();
    let fetch = "node -e 'fetch(\"http://HOST/\").then(async answer => { \
                 console.log(await answer.text()); process.exit(answer.ok ? 0 : 1) }, \
                 () => process.exit(2))'";
    check(&origin, "node", "install nodejs", fetch, "hello").await;
    let version = r#"{"name":"probe","version":"1.2.3",
        "dist":{"tarball":"http://origin.test/probe.tgz","shasum":"00"}}"#;
    origin.write(
        "probe",
        &format!(
            r#"{{"name":"probe","dist-tags":{{"latest":"1.2.3"}},"versions":{{"1.2.3":{version}}}}}"#
        ),
    );
    let npm = "npm view probe version --registry http://HOST/ --no-update-notifier";
    check(&origin, "npm", "install npm", npm, "1.2.3").await;
}

/// Writes a repository for the server. Returns whether there is git, and reports it otherwise.
pub(super) fn make_repository(origin: &Origin) -> bool {
    let repository = origin.dir.path().join("r.git");
    let script = "git init -q --bare r.git && git init -q w && cd w && \
                  git -c user.name=a -c user.email=a@b.c commit -q --allow-empty -m first && \
                  git push -q ../r.git HEAD:refs/heads/main && \
                  git --git-dir ../r.git symbolic-ref HEAD refs/heads/main && \
                  git --git-dir ../r.git update-server-info";
    let made = Command::new("sh")
        .args(["-c", script])
        .current_dir(origin.dir.path())
        .stderr(Stdio::null())
        .status();
    let is_made = made.is_ok_and(|made| made.success()) && repository.exists();
    if !is_made {
        skipped("git", "install git");
    }
    is_made
}

#[tokio::test]
async fn git_over_http() {
    let origin = Origin::start();
    if !make_repository(&origin) {
        return;
    }
    let clone = "git clone -q http://HOST/r.git c-HOST && git -C c-HOST log --format=%s";
    check(&origin, "git", "install git", clone, "first").await;
}

#[tokio::test]
async fn cargo_with_a_registry() {
    let origin = Origin::start();
    let Some(sysroot) = sysroot() else { return skipped("cargo", "install Rust") };
    write_crate(&origin, r#"{"dl":"http://origin.test/crates"}"#);
    let fixture = Fixture::new();
    let mut request = spec("s1").network(to(&origin));
    request.allow_read.push(sysroot.clone());
    let session = fixture.sessions.open(request).await.unwrap();
    let command = |host: &str| {
        format!(
            "{CARGO} printf '[net]\\nretry = 0\\n[registries.own]\\n\
             index = \"sparse+http://{host}/index/\"\\n' > .cargo/config.toml && \
             rm -f Cargo.lock && CARGO_HOME=$TMPDIR/{host} {}/bin/cargo generate-lockfile && \
             grep -A1 probe Cargo.lock",
            sysroot.display()
        )
    };
    let allowed = session.bash(&command("origin.test")).await.unwrap();
    assert_eq!(allowed.exit_code, 0, "{}", allowed.stderr);
    assert!(allowed.stdout.contains("1.2.3"), "{}", allowed.stdout);
    let denied = session.bash(&command("denied.test")).await.unwrap();
    assert_ne!(denied.exit_code, 0);
    assert_eq!(refused(&denied), ["denied.test:80"], "{}", denied.stderr);
}

/// Creates a package that depends on one of the registry `own`.
pub(super) const CARGO: &str = "mkdir -p src .cargo && touch src/lib.rs && \
     printf '[package]\\nname = \"a\"\\nversion = \"1.0.0\"\\n[dependencies]\\n\
     probe = { version = \"1\", registry = \"own\" }\\n' > Cargo.toml &&";

/// Writes the index of a registry with one package.
pub(super) fn write_crate(origin: &Origin, config: &str) {
    origin.write("index/config.json", config);
    let sum = "0".repeat(64);
    origin.write(
        "index/pr/ob/probe",
        &format!(
            r#"{{"name":"probe","vers":"1.2.3","deps":[],"cksum":"{sum}","features":{{}},"yanked":false}}"#
        ),
    );
}

/// Returns the directory of the Rust toolchain, which holds cargo.
pub(super) fn sysroot() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.join("bin/cargo").exists().then_some(path)
}

/// A TLS server of the program `openssl`, which is killed when dropped.
struct TlsServer(std::process::Child);

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl TlsServer {
    /// Serves the files of a directory. Returns `None` without the program.
    fn start(dir: &Path) -> Option<(Self, u16)> {
        let run = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.args(arguments.split(' ')).current_dir(dir);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let certificate = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
                           -keyout key.pem -out certificate.pem -days 2 -subj /CN=origin.test";
        run(certificate).status().ok().filter(|made| made.success())?;
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let serve =
            format!("s_server -accept 127.0.0.1:{port} -cert certificate.pem -key key.pem -WWW");
        let server = Self(run(&serve).spawn().ok()?);
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some((server, port));
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the TLS server does not listen");
    }
}

#[tokio::test]
async fn https_passes_in_a_tunnel_to_the_named_host_only() {
    let dir = tempfile::tempdir().unwrap();
    testkit::write_file(dir.path(), "index.html", "hello over TLS\n");
    let Some((_server, port)) = TlsServer::start(dir.path()) else {
        return skipped("openssl", "install openssl");
    };
    let fixture = Fixture::new();
    let at = |name: &str| format!("{name}:443:127.0.0.1:{port}").parse().unwrap();
    let network = NetworkSpec::allow(["origin.test:443"]).resolve(at("origin.test"));
    let session = open(&fixture, "s1", network.resolve(at("denied.test"))).await;
    for get in [
        "curl -sSkf https://origin.test/index.html",
        "wget -qO- --no-check-certificate https://origin.test/index.html",
        "printf 'GET /index.html HTTP/1.0\\r\\nHost: origin.test\\r\\n\\r\\n' | \
         openssl s_client -quiet -connect origin.test:443 -servername origin.test 2>/dev/null | \
         grep hello",
    ] {
        let allowed = session.bash(get).await.unwrap();
        assert!(allowed.stdout.contains("hello over TLS"), "{}{}", allowed.stdout, allowed.stderr);
        let denied = session.bash(&get.replace("origin", "denied")).await.unwrap();
        assert_ne!(denied.exit_code, 0, "{get}");
        assert_eq!(refused(&denied), ["denied.test:443"], "{get}");
    }
    // The name in the hello is another one than that of the connection.
    let fronted = "address=$(getent ahostsv4 origin.test | head -n 1 | cut -d ' ' -f 1); \
                   curl -sSk --resolve denied.test:443:$address https://denied.test/index.html";
    let fronted = session.bash(fronted).await.unwrap();
    assert_ne!(fronted.exit_code, 0, "{}", fronted.stdout);
    assert_eq!(refused(&fronted), ["origin.test:443"]);
    assert!(fronted.denied[0].rule.contains("names another host: denied.test"), "{fronted:?}");
}
