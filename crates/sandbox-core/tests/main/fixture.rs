//! The session that tests of the native engine use, and helpers around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use policy::Policy;
use rustix::process::Pid;
use sandbox_core::{
    CommandOutput, CommandSpec, CommandStatus, Limits, NativeSandbox, Sandbox, SessionDir, Tier,
    Weakness,
};

pub(crate) use testkit::{BASE, NO_DIRECTORY_IN_SIGHT};

/// Creates a directory that the engine does not replace; see [`testkit::directory_in_sight`].
pub(crate) fn directory_in_sight() -> Option<tempfile::TempDir> {
    testkit::directory_in_sight(env!("CARGO_TARGET_TMPDIR"))
}

/// Returns the number of repetitions for a test that usually has `count`: a tenth of it in an
/// emulated machine, which is some twenty times slower.
pub(crate) fn repetitions(count: usize) -> usize {
    if is_emulated() { count.div_ceil(10) } else { count }
}

/// Returns `duration`, and 20 times as much where an emulator executes everything.
pub(crate) fn pause(duration: Duration) -> Duration {
    if is_emulated() { 20 * duration } else { duration }
}

fn is_emulated() -> bool {
    std::env::var_os("SANDBOX_CORE_TEST_EMULATED").is_some()
}

/// Environment variable that selects the Landlock tier.
pub(crate) const WITHOUT_NAMESPACES: &str = "SANDBOX_CORE_TEST_WITHOUT_NAMESPACES";

pub(crate) fn without_namespaces() -> bool {
    std::env::var_os(WITHOUT_NAMESPACES).is_some()
}

/// Opens a sandbox on the tier that is being tested.
pub(crate) fn open(policy: &Policy, dir: &Path) -> NativeSandbox {
    open_with(policy, dir, &Limits::default())
}

pub(crate) fn open_with(policy: &Policy, dir: &Path, limits: &Limits) -> NativeSandbox {
    NativeSandbox::builder(policy, dir).limits(limits.clone()).tier(tier()).open().unwrap()
}

/// Opens a sandbox that may have this weakness, if the tier has it.
pub(crate) fn open_accepting(policy: &Policy, dir: &Path, weakness: Weakness) -> NativeSandbox {
    let tier = match tier() {
        Tier::Landlock { .. } => Tier::Landlock { accepted: vec![weakness] },
        tier => tier,
    };
    NativeSandbox::builder(policy, dir).tier(tier).open().unwrap()
}

/// Returns the tier that is being tested.
pub(crate) fn tier() -> Tier {
    if without_namespaces() { Tier::Landlock { accepted: Vec::new() } } else { Tier::Namespaces }
}

pub(crate) struct Fixture {
    temporary: Arc<tempfile::TempDir>,
    pub(crate) root: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) sandbox: NativeSandbox,
}

/// Creates a session `s1` beside another one, `s2`, that contains a file.
pub(crate) fn fixture() -> Fixture {
    fixture_in(Arc::new(tempfile::tempdir().unwrap()))
}

fn fixture_in(temporary: Arc<tempfile::TempDir>) -> Fixture {
    let root = temporary.path().canonicalize().unwrap();
    let dir = SessionDir::create(&root.join("sessions/s1")).unwrap().path().to_owned();
    fs::create_dir_all(root.join("sessions/s2")).unwrap();
    fs::write(root.join("sessions/s2/secret"), "of another").unwrap();
    let sandbox = open(&policy(&root, &dir), &dir);
    Fixture { temporary, root, dir, sandbox }
}

fn policy(root: &Path, dir: &Path) -> Policy {
    let builder = Policy::session(dir).sessions_root(&root.join("sessions")).home(root);
    // Most tests treat the session directory like one of the user.
    builder.protect_names().build().unwrap()
}

pub(crate) fn spec(command: &str) -> CommandSpec {
    let mut spec = CommandSpec::new(command);
    spec.env = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
    spec.timeout = Duration::from_secs(60);
    spec
}

impl Fixture {
    pub(crate) fn policy(&self) -> Policy {
        policy(&self.root, &self.dir)
    }

    /// Opens the same session in another sandbox.
    pub(crate) fn again(&self) -> Fixture {
        fixture_in(Arc::clone(&self.temporary))
    }

    pub(crate) async fn run(&self, command: &str) -> CommandOutput {
        self.sandbox.exec(spec(command)).await.unwrap()
    }

    pub(crate) async fn text(&self, command: &str) -> String {
        let output = self.run(command).await;
        String::from_utf8_lossy(&output.stdout.bytes).into_owned()
            + &String::from_utf8_lossy(&output.stderr.bytes)
    }

    /// Asserts that a command failed with this message.
    #[track_caller]
    pub(crate) fn failed(output: &CommandOutput, message: &str) {
        let stderr = String::from_utf8_lossy(&output.stderr.bytes);
        assert!(
            output.status != CommandStatus::Exited(0) && stderr.contains(message),
            "{:?}: {stderr}",
            output.status
        );
    }
}

/// Returns whether a process with this unusual argument is alive anywhere on the machine.
pub(crate) fn alive(argument: &str) -> bool {
    !pids(argument).is_empty()
}

/// Returns the processes with this unusual argument.
pub(crate) fn pids(argument: &str) -> Vec<Pid> {
    let has_argument = |entry: &fs::DirEntry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|part| part == argument.as_bytes())
    };
    let found = fs::read_dir("/proc").unwrap().flatten().filter(has_argument);
    found.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Returns a number of seconds that no other test sleeps.
pub(crate) fn unique_seconds() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 5000 + std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until a condition holds, for at most ten seconds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds: {what}");
}
