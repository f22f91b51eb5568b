//! A session in which real programs reach servers on loopback, and are refused others.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_tools::egress::Gate;
use agent_tools::secrets::MaskSpec;
use agent_tools::{NetworkSpec, Session};
use testkit::skipped;

use super::masked::{Source, VALUE};
use super::origin::Origin;
use super::refused;
use crate::session::{Fixture, spec};

/// The time within which each program gives up after a refusal.
const PATIENCE: Duration = Duration::from_secs(15);
/// The file with the certificate of the test's authority.
pub(super) const AUTHORITY: &str = "authority.pem";

const PEERS: &str = "`cargo xtask peers` installs it";

/// A session that reaches `origin.test` on all ports, and knows `denied.test`.
pub(super) struct Programs {
    pub(super) session: Arc<Session>,
    pub(super) origin: Origin,
    source: Arc<Source>,
    _fixture: Fixture,
}

/// A server of the host: the port of both names in the session, and its own on loopback.
pub(super) type Server = (u16, u16);

impl Programs {
    /// Opens a session whose ports lead to these servers, and 80 and 443 to a web server otherwise.
    /// Its commands can read these directories of the host.
    pub(super) async fn open(servers: &[Server], readable: Vec<PathBuf>) -> Self {
        Self::open_trusting("", servers, readable).await
    }

    /// Like [`Self::open`]. The gate trusts another authority too.
    pub(super) async fn open_trusting(
        authority: &str,
        servers: &[Server],
        readable: Vec<PathBuf>,
    ) -> Self {
        let (origin, source) = (Origin::start(), Source::new(&[]));
        // The gate verifies the server's certificate if it reads the requests.
        let gate = Gate::builder().extra_roots(&origin.identity.authority).extra_roots(authority);
        let variables = Arc::clone(&source);
        let fixture = Fixture::with(|builder| builder.variables(variables).gate(gate));
        let mut network = NetworkSpec::allow(["origin.test"]);
        let web = [80, 443].map(|port| (port, origin.port));
        let web = web.iter().filter(|(port, _)| servers.iter().all(|(other, _)| other != port));
        for (port, own) in servers.iter().chain(web) {
            for name in ["origin", "denied"] {
                let at = format!("{name}.test:{port}:127.0.0.1:{own}");
                network = network.resolve(at.parse().unwrap());
            }
        }
        let mut request = spec("s1").network(network);
        request.allow_read.extend(readable);
        let session = fixture.sessions.open(request).await.unwrap();
        session.write_file(AUTHORITY, origin.identity.authority.as_bytes()).await.unwrap();
        Self { session, origin, source, _fixture: fixture }
    }

    /// Returns whether the session has a program. Reports the check as skipped otherwise.
    pub(super) async fn has(&self, program: &str, package: &str) -> bool {
        let found = self.session.bash(&format!("command -v {program}")).await.unwrap();
        if found.exit_code != 0 {
            skipped(program, &format!("install {package}"));
        }
        found.exit_code == 0
    }

    /// Runs a command that must succeed.
    pub(super) async fn run(&self, command: &str) {
        let ran = self.session.bash(command).await.unwrap();
        assert_eq!(ran.exit_code, 0, "{command}: {}{}", ran.stdout, ran.stderr);
    }

    /// Checks that a command prints `expected` for `origin.test`, without any denial. For
    /// `denied.test`, it must fail soon and without a connection, and the result must explain that.
    /// `HOST` stands for the host in the command.
    pub(super) async fn check(&self, command: &str, port: u16, expected: &str) {
        let allowed = self.session.bash(&command.replace("HOST", "origin.test")).await.unwrap();
        let text = format!("{command}: {}{}", allowed.stdout, allowed.stderr);
        assert_eq!(allowed.exit_code, 0, "{text}");
        assert!(allowed.stdout.contains(expected), "{text}");
        assert_eq!(allowed.denied, [], "{text}");

        let (count, start) = (self.origin.connections(), Instant::now());
        let denied = self.session.bash(&command.replace("HOST", "denied.test")).await.unwrap();
        let took = start.elapsed();
        let text = format!("{command}: {}{}", denied.stdout, denied.stderr);
        assert_ne!(denied.exit_code, 0, "{text}");
        assert_eq!(refused(&denied), [format!("denied.test:{port}")], "{text}");
        assert_eq!(denied.denied[0].rule, "no entry of allowedDomains covers it", "{text}");
        let remedy =
            format!("use --allow-host denied.test:{port} (network.allowedDomains in settings)");
        assert_eq!(denied.denied[0].remedy, Some(remedy), "{text}");
        assert_eq!(self.origin.connections(), count, "a byte reached the server: {text}");
        assert!(took < PATIENCE, "it took {took:?}: {text}");
    }

    /// Gives commands the masked variable `KEY` for `origin.test`. Afterwards, the gate terminates
    /// TLS there.
    pub(super) fn mask(&self) {
        let mask = MaskSpec::new(["origin.test"]);
        self.source.set(&[("KEY", VALUE, Some(mask))]);
    }

    /// Checks that a command prints `expected` for `https://origin.test`, and that the server gets
    /// the value of `KEY`, which the command does not know, in a header `Authorization`. `URL`
    /// stands for the start of the URL.
    pub(super) async fn check_masked(&self, command: &str, expected: &str) {
        self.origin.authorizations();
        let command = command.replace("URL", "https://origin.test").replace("HOST", "origin.test");
        let ran = self.session.bash(&format!("echo $KEY; {command}")).await.unwrap();
        let text = format!("{command}: {}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.exit_code, 0, "{text}");
        assert!(ran.stdout.starts_with("ghp_") && ran.stdout.contains(expected), "{text}");
        assert!(!text.contains(VALUE) && ran.denied.is_empty(), "{text}");
        let authorizations = self.origin.authorizations();
        assert!(authorizations.iter().any(|value| value.ends_with(VALUE)), "{text}");
    }

    /// Checks a command without and with TLS. `URL` stands for the start of a URL, up to the path.
    pub(super) async fn check_web(&self, command: &str, expected: &str) {
        self.check(&command.replace("URL", "http://HOST"), 80, expected).await;
        self.check(&command.replace("URL", "https://HOST"), 443, expected).await;
    }
}

/// The Python of `cargo xtask peers`, with its packages.
pub(super) struct Python {
    pub(super) directory: PathBuf,
    /// The directory of the installation that its virtual environment belongs to.
    base: PathBuf,
}

impl Python {
    /// Returns `None` and reports `what` as skipped without it.
    pub(super) fn find(what: &str) -> Option<Self> {
        let Some(directory) = std::env::var_os("PEERS_PYTHON_DIR").map(PathBuf::from) else {
            skipped(what, PEERS);
            return None;
        };
        let base = Command::new(directory.join("bin/python"))
            .args(["-c", "import sys; print(sys.base_prefix)"])
            .output()
            .unwrap();
        let base = PathBuf::from(String::from_utf8(base.stdout).unwrap().trim());
        Some(Self { directory, base })
    }

    pub(super) fn program(&self) -> PathBuf {
        self.directory.join("bin/python")
    }

    /// Returns the directories that it needs.
    pub(super) fn readable(&self) -> Vec<PathBuf> {
        let is_visible = self.base.starts_with("/usr");
        let base = (!is_visible).then(|| self.base.clone());
        std::iter::once(self.directory.clone()).chain(base).collect()
    }
}

/// The node of `cargo xtask peers`, and the directory of its modules.
pub(super) fn node(what: &str) -> Option<(PathBuf, PathBuf)> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let found = named("NODE22").zip(named("PEERS_MODULES_DIR"));
    if found.is_none() {
        skipped(what, PEERS);
    }
    found
}

/// A process on the host, which is killed when dropped.
pub(super) struct Process(pub(super) std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a free port of loopback, for a program that opens none by itself.
pub(super) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Reads a script of this test.
pub(super) fn script(name: &str) -> Vec<u8> {
    std::fs::read(Path::new("tests/network").join(name)).unwrap()
}
