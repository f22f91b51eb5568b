//! `agent-tools shell` in the terminal emulator tmux.

use std::process::Command;
use std::time::{Duration, Instant};

use testkit::skipped;

/// A screen of tmux, with a server of its own.
pub(crate) struct Screen {
    dir: tempfile::TempDir,
}

impl Screen {
    /// Runs a command on a new screen. Returns `None` without tmux.
    pub(crate) fn new(command: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            skipped("a shell in a terminal", "package tmux");
            return None;
        }
        let screen = Self { dir: tempfile::tempdir().unwrap() };
        let shell = format!("{} {command}; echo code=$?.; exec cat", screen.program());
        screen.tmux(&["new-session", "-d", "-x", "90", "-y", "20", &shell]);
        Some(screen)
    }

    fn program(&self) -> String {
        let home = self.dir.path().canonicalize().unwrap().join("home");
        format!("AGENT_TOOLS_HOME={} {}", home.display(), env!("CARGO_BIN_EXE_agent-tools"))
    }

    fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.dir.path().join("tmux")).args(["-f", "/dev/null"]).args(args);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm");
        let output = command.env("HOME", self.dir.path()).env("LANG", "C.UTF-8").output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Waits until the screen shows a text.
    #[track_caller]
    pub(crate) fn expect(&self, text: &str) {
        let begun = Instant::now();
        loop {
            let shown = self.tmux(&["capture-pane", "-p"]);
            if shown.contains(text) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{text:?} is not in\n{shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.dir.path().join("tmux")).arg("kill-server");
        let _ = command.output();
    }
}

#[test]
fn a_shell_has_job_control_sizes_and_an_editor() {
    let Some(screen) = Screen::new("shell") else { return };
    screen.expect("default#");
    screen.press(&["PS1='in> '; clear; stty size; sleep 1000", "Enter"]);
    screen.expect("20 90\n");
    screen.press(&["C-c"]);
    screen.expect("^C\nin>");
    screen.press(&["clear; echo n''ow.; cat", "Enter"]);
    screen.expect("now.\n");
    screen.press(&["typed", "Enter"]);
    screen.expect("typed\ntyped\n");
    screen.press(&["C-z"]);
    screen.expect("Stopped");
    screen.press(&["clear; echo b''ack.; fg", "Enter"]);
    screen.expect("back.\ncat\n");
    screen.press(&["again", "Enter"]);
    screen.expect("again\nagain\n");
    screen.press(&["C-d"]);
    screen.tmux(&["resize-window", "-x", "70", "-y", "15"]);
    screen.press(&["clear; stty size", "Enter"]);
    screen.expect("15 70\n");
    if Command::new("vim").arg("--version").output().is_ok() {
        screen.press(&["vim -u NONE v.txt", "Enter"]);
        screen.expect("~\n");
        screen.press(&["ihello from vim", "Escape"]);
        screen.press(&[":wq", "Enter"]);
        // The editor drops what is typed before it has exited.
        screen.expect("NONE v.txt\nin>");
        screen.press(&["clear; cat v.txt", "Enter"]);
        screen.expect("hello from vim\nin>");
    } else {
        skipped("an editor in a session", "package vim");
    }
    screen.press(&["clear; echo 1 > made; exit 9", "Enter"]);
    screen.expect("code=9.");
    screen.expect("  made: file://");
    // The modes of the terminal are restored.
    screen.press(&["echoed", "Enter"]);
    screen.expect("echoed\nechoed\n");
}
