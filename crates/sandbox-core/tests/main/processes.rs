//! Commands that a program drives: terminals of their own, kills, and checks while they run.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::time::Duration;

use sandbox_core::{CommandStatus, PseudoTerminal, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::fixture::{Fixture, fixture, spec};

/// Both directions of a terminal, and the text that it has shown since the last expected text.
struct Screen {
    keys: pipe::Sender,
    output: pipe::Receiver,
    shown: String,
}

impl Screen {
    fn of(terminal: &PseudoTerminal) -> Self {
        let copy = || terminal.as_fd().try_clone_to_owned().unwrap();
        Self {
            keys: pipe::Sender::from_owned_fd_unchecked(copy()).unwrap(),
            output: pipe::Receiver::from_owned_fd_unchecked(copy()).unwrap(),
            shown: String::new(),
        }
    }

    async fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.unwrap();
    }

    async fn expect(&mut self, text: &str) {
        let shows = async {
            while !self.shown.contains(text) {
                let mut buffer = [0; 4096];
                let count = self.output.read(&mut buffer).await.unwrap();
                self.shown += &String::from_utf8_lossy(&buffer[..count]);
            }
        };
        let shows = tokio::time::timeout(Duration::from_secs(60), shows).await;
        assert!(shows.is_ok(), "{text:?} is not in {:?}", self.shown);
        let at = self.shown.find(text).unwrap();
        self.shown.drain(..at + text.len());
    }
}

#[tokio::test]
async fn a_command_has_a_terminal_of_its_own_with_a_size_and_keys() {
    let Fixture { sandbox, .. } = &fixture();
    let size = TerminalSize { rows: 31, columns: 91 };
    let shell = "PS1='in> ' exec bash --norc --noprofile --noediting -i";
    let (mut running, terminal) = sandbox.start_in_terminal(&spec(shell), size).await.unwrap();
    let mut screen = Screen::of(&terminal);
    screen.expect("in> ").await;
    screen.press("stty size; echo y > /dev/tty\n").await;
    screen.expect("31 91\r\ny\r\n").await;
    terminal.resize(TerminalSize { rows: 5, columns: 40 }).unwrap();
    let waits = tokio::spawn(async move { (running.wait().await, running) });
    // The program itself says that it has the terminal.
    screen.press("stty size; sh -c 'echo rea''dy; exec cat'\n").await;
    screen.expect("5 40\r\nready\r\n").await;
    screen.press("\x03").await;
    screen.expect("^C").await;
    screen.expect("in> ").await;
    // No shell could continue it.
    screen.press("suspend\n").await;
    screen.expect("in> ").await;
    screen.press("sleep 1000 &\n").await;
    screen.expect("in> ").await;
    screen.press("exit 7\n").await;
    let (ended, _) = waits.await.unwrap();
    let ended = ended.unwrap();
    assert_eq!(ended.status, CommandStatus::Exited(7));
}

#[tokio::test]
async fn a_kill_ends_every_process_and_may_be_repeated() {
    let Fixture { sandbox, .. } = &fixture();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let command = spec("trap '' TERM; sleep 1000 & setsid sleep 1000");
    let mut running = sandbox.start(&command, [null.as_fd(); 3]).await.unwrap();
    running.kill();
    running.kill();
    let ended = tokio::time::timeout(Duration::from_secs(30), running.wait()).await.unwrap();
    assert_eq!(ended.unwrap().status, CommandStatus::Signaled(9));
}

#[tokio::test]
async fn a_file_at_a_denied_path_is_quarantined_while_the_command_runs() {
    let Fixture { dir, sandbox, .. } = &fixture();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let command = spec("ln -s .bashrc l; echo evil > l; mkdir -p p/.vscode; touch made; cat a");
    assert_eq!(sandbox.check_running().await, []);
    let waiting = spec(&format!("{}; until [ -e go ]; do sleep 0.01; done", command.command));
    let mut running = sandbox.start(&waiting, [null.as_fd(); 3]).await.unwrap();
    while !dir.join("made").exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let found = sandbox.check_running().await;
    let refused = dir.join(".bashrc.refused");
    assert!(found.iter().any(|file| file.moved_to.as_ref() == Some(&refused)), "{found:?}");
    assert!(!dir.join(".bashrc").exists());
    fs::write(dir.join("go"), "").unwrap();
    let ended = running.wait().await.unwrap();
    assert!(ended.quarantined.is_empty() && ended.sandbox_ended.is_none(), "{ended:?}");
}
