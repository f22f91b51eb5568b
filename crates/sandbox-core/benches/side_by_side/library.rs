//! The library of srt in one node process, like a backend in node uses it.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

#[derive(Debug)]
pub(crate) struct Library {
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _node: Child,
}

impl Library {
    /// Starts node. Returns `None` if node or the package does not work here.
    pub(crate) async fn start(package: &Path, settings: &Path, temporary: &Path) -> Option<Self> {
        // The variable names the present folder, also of a clone that was moved after its build.
        let package_of_bench = std::env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let script = Path::new(&package_of_bench).join("benches/side_by_side/library.mjs");
        let mut node = Command::new(crate::node())
            .args([script.as_path(), package, settings])
            // srt does not remove its sockets.
            .env("TMPDIR", temporary)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let (requests, answers) = (node.stdin.take()?, BufReader::new(node.stdout.take()?).lines());
        let mut library = Self { requests, answers, _node: node };
        (library.answers.next_line().await.ok()?? == "ready").then_some(library)
    }

    /// Runs one command.
    pub(crate) async fn run(&mut self) {
        self.requests.write_all(b"\n").await.unwrap();
        assert_eq!(self.answers.next_line().await.unwrap().as_deref(), Some("0"));
    }
}
