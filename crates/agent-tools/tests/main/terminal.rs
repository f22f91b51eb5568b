//! `agent-tools sandbox` in a terminal, as a job of an interactive shell.

use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{read, write};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};
use testkit::skipped;

/// The prompt of the shell on the host.
pub(crate) const PROMPT: &str = "host> ";

/// An interactive shell on a terminal, which starts `agent-tools sandbox` as its job.
pub(crate) struct Terminal {
    master: OwnedFd,
    shell: Child,
    /// The text that the terminal has shown since the last expected text.
    shown: String,
    pub(crate) sandbox: String,
    pub(crate) dir: tempfile::TempDir,
}

impl Terminal {
    /// Starts the shell as this user, or as an ordinary one.
    pub(crate) fn new(setting: &Setting) -> Option<Self> {
        let dir =
            tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        let program = dir.path().join("agent-tools");
        std::fs::copy(env!("CARGO_BIN_EXE_agent-tools"), &program).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let inner = ioctl_tiocgptpeer(&master, flags).unwrap();
        let end = || Stdio::from(inner.try_clone().unwrap());
        let mut shell = Command::new("setsid");
        shell.args(["--ctty", "--wait"]);
        if setting.is_ordinary {
            shell.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        // Without an editor of lines, the shell leaves the modes of the terminal alone.
        shell.args(["bash", "--norc", "--noprofile", "--noediting", "-i"]);
        shell.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "dumb").env("PS1", PROMPT);
        shell.env("HOME", dir.path()).current_dir(dir.path());
        let Ok(shell) = shell.stdin(end()).stdout(end()).stderr(end()).spawn() else {
            skipped("a command in a terminal", "package util-linux");
            return None;
        };
        let sandbox = format!("{} --engine {} sandbox", program.display(), setting.engine);
        let mut terminal = Self { master, shell, shown: String::new(), sandbox, dir };
        terminal.resize(24, 80);
        terminal.expect(PROMPT);
        Some(terminal)
    }

    pub(crate) fn press(&self, keys: &str) {
        assert_eq!(write(&self.master, keys.as_bytes()), Ok(keys.len()));
    }

    /// Enters a line. The echo of the line is not what a test expects.
    pub(crate) fn enter(&mut self, line: &str) {
        self.press(line);
        let end = &line[line.len().saturating_sub(8)..];
        self.expect(end);
        self.press("\n");
        self.expect("\n");
    }

    /// Starts the sandbox with these arguments.
    pub(crate) fn start(&mut self, arguments: &str) {
        let line = format!("{} {arguments}", self.sandbox);
        self.enter(&line);
    }

    /// Waits until the terminal shows a text. Returns everything up to it.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{text:?} is not in {:?}",
                self.shown
            );
            let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            if poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&tick)) == Ok(0) {
                continue;
            }
            let mut buffer = [0; 4096];
            let count = read(&self.master, &mut buffer).unwrap();
            self.shown += &String::from_utf8_lossy(&buffer[..count]);
        }
    }

    /// Returns whether the terminal shows nothing more, for a while.
    pub(crate) fn is_silent(&self) -> bool {
        let a_while = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };
        self.shown.is_empty()
            && poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&a_while)) == Ok(0)
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
    }

    /// Returns whether the terminal echoes what is typed, and collects it into lines.
    pub(crate) fn has_usual_modes(&self) -> bool {
        let usual = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcgetattr(&self.master).unwrap().local_modes.contains(usual)
    }

    /// Waits until the command has taken the terminal.
    fn wait_for_raw_mode(&self) {
        let begun = Instant::now();
        // A shell that reads a line has a raw mode too, in which a read waits for a byte.
        let waits = || tcgetattr(&self.master).unwrap().special_codes[SpecialCodeIndex::VMIN] != 0;
        while self.has_usual_modes() || waits() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the terminal keeps its modes");
            std::thread::yield_now();
        }
    }

    /// Returns the children of a process.
    fn children(pid: u32) -> Vec<u32> {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Waits until the shell knows that its job is stopped. It would not continue it before.
    fn wait_until_stopped(&mut self) {
        let begun = Instant::now();
        loop {
            self.enter("jobs");
            if self.expect(PROMPT).contains("Stopped") {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the job is stopped");
        }
    }

    /// Returns the process id of the running `agent-tools`.
    fn agent_tools(&self) -> u32 {
        // `setsid` forks only if it leads a process group.
        let is_running = |pid: &u32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.windows(11).any(|part| part == b"agent-tools")
        };
        let shells = Self::children(self.shell.id()).into_iter().chain([self.shell.id()]);
        let mut jobs = shells.flat_map(Self::children);
        jobs.find(is_running).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

pub(crate) struct Setting {
    pub(crate) engine: &'static str,
    pub(crate) is_ordinary: bool,
}

/// Runs a test on both tiers, as root and as an ordinary user if this process is root.
fn in_each_setting(test: impl Fn(Terminal)) {
    let users: &[bool] =
        if rustix::process::geteuid().is_root() { &[false, true] } else { &[false] };
    for engine in ["native", "landlock"] {
        for is_ordinary in users {
            let setting = Setting { engine, is_ordinary: *is_ordinary };
            let Some(mut terminal) = Terminal::new(&setting) else { return };
            terminal.start("true; echo code=$?.");
            if terminal.expect(".").contains("code=0") {
                terminal.expect(PROMPT);
                test(terminal);
            } else {
                skipped("a command in a terminal", &format!("--engine {engine} cannot be opened"));
            }
        }
    }
}

#[test]
fn every_stream_and_dev_tty_are_a_terminal_of_the_same_size() {
    in_each_setting(|mut terminal| {
        terminal.resize(31, 91);
        terminal.start("-c 'test -t 0 -a -t 1 -a -t 2 && echo all; stty size; echo y > /dev/tty'");
        terminal.expect("all\r\n31 91\r\ny\r\n");
        terminal.expect(PROMPT);
        assert!(terminal.has_usual_modes());
    });
}

#[test]
fn a_stopped_command_reads_nothing_and_goes_on_later() {
    in_each_setting(|mut terminal| {
        terminal.start("cat");
        terminal.wait_for_raw_mode();
        terminal.press("first\n");
        terminal.expect("first\r\nfirst\r\n");
        terminal.press("\x1a");
        terminal.expect("Stopped");
        terminal.expect(PROMPT);
        terminal.enter("echo 'for the shell'");
        assert!(!terminal.expect(PROMPT).contains("shell\r\nfor the shell\r\nfor"));
        terminal.enter("fg");
        terminal.wait_for_raw_mode();
        terminal.press("second\n");
        terminal.expect("second\r\nsecond\r\n");
        terminal.press("\x03");
        terminal.expect(PROMPT);
        terminal.enter("echo code=$?.");
        terminal.expect("code=130.");
        assert!(terminal.has_usual_modes());
    });
}

#[test]
fn an_interactive_shell_has_job_control_and_learns_the_size() {
    in_each_setting(|mut terminal| {
        terminal.start("-c 'PS1=\"in> \" exec bash --norc --noprofile --noediting -i'");
        terminal.expect("in> ");
        terminal.enter("cat");
        terminal.press("a\n");
        terminal.expect("a\r\na\r\n");
        terminal.press("\x1a");
        terminal.expect("Stopped");
        terminal.expect("in> ");
        terminal.enter("fg");
        terminal.expect("cat\r\n");
        terminal.press("b\n");
        terminal.expect("b\r\nb\r\n");
        terminal.press("\x03");
        terminal.expect("in> ");
        let waits = "echo now.; while :; do sleep 0.1; done";
        terminal.enter(&format!("bash -c 'trap \"stty size; exit\" WINCH; {waits}'"));
        terminal.expect("now.");
        terminal.resize(33, 101);
        terminal.expect("33 101");
        terminal.expect("in> ");
        terminal.enter("suspend");
        terminal.expect("Stopped");
        terminal.expect(PROMPT);
        assert!(terminal.has_usual_modes());
        terminal.enter("fg");
        terminal.wait_for_raw_mode();
        terminal.enter("exit 7");
        terminal.expect(PROMPT);
        terminal.enter("echo code=$?.");
        terminal.expect("code=7.");
        assert!(terminal.has_usual_modes());
    });
}

#[test]
fn the_modes_are_restored_when_a_process_is_killed() {
    in_each_setting(|mut terminal| {
        for (kills_init, signal, code) in
            [(false, Signal::TERM, 143), (false, Signal::HUP, 129), (true, Signal::KILL, 125)]
        {
            terminal.start("cat");
            terminal.wait_for_raw_mode();
            terminal.press("x\n");
            terminal.expect("x\r\nx\r\n");
            let mut victim = terminal.agent_tools();
            if kills_init {
                // The process that started init may have ended just now.
                let is_init = |pid: &u32| {
                    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                    name.is_ok_and(|name| name.trim_end() == "session-init")
                };
                victim = Terminal::children(victim).into_iter().find(is_init).unwrap();
            }
            kill_process(Pid::from_raw(victim.cast_signed()).unwrap(), signal).unwrap();
            terminal.expect(PROMPT);
            terminal.enter("echo code=$?.");
            terminal.expect(&format!("code={code}."));
            terminal.expect(PROMPT);
            assert!(terminal.has_usual_modes(), "{signal:?}");
        }
    });
}

#[test]
fn the_keys_interrupt_and_quit_end_a_command_of_a_session_and_print_its_output() {
    in_each_setting(|mut terminal| {
        let home = terminal.dir.path().join("home");
        std::fs::create_dir(&home).unwrap();
        std::fs::set_permissions(&home, Permissions::from_mode(0o777)).unwrap();
        let bash = terminal.sandbox.replace(" sandbox", " bash");
        terminal.enter(&format!("export AGENT_TOOLS_HOME={}", home.display()));
        terminal.expect(PROMPT);
        // Otherwise the keys drop what the terminal has not shown yet (termios(3), NOFLSH).
        terminal.enter("stty noflsh");
        terminal.expect(PROMPT);
        for (key, code) in [("\x03", 130), ("\x1c", 131)] {
            terminal.enter(&format!("{bash} 'echo out.; echo {code} > f; : > begun; sleep 99'"));
            let begun = home.join("sessions/default/begun");
            let start = Instant::now();
            while !begun.exists() {
                assert!(start.elapsed() < Duration::from_secs(30), "the command begins");
                std::thread::yield_now();
            }
            std::fs::remove_file(begun).unwrap();
            terminal.press(key);
            terminal.expect("out.\r\n");
            terminal.expect(PROMPT);
            terminal.enter("echo code=$?.");
            terminal.expect(&format!("code={code}."));
            terminal.expect(PROMPT);
            let stored = std::fs::read_to_string(home.join("store/user_local/sessions/default/f"));
            assert_eq!(stored.unwrap(), format!("{code}\n"));
        }
    });
}

#[test]
fn a_command_in_a_pipeline_takes_the_terminal_only_when_it_reads_it() {
    in_each_setting(|mut terminal| {
        // What is typed ahead belongs to the shell, and its keys stop the whole pipeline.
        terminal.start("-c 'for i in {1..9}; do echo n$i.; sleep 0.2; done' | cat");
        terminal.expect("n2.");
        assert!(terminal.has_usual_modes());
        terminal.press("\x1a");
        terminal.expect("Stopped");
        terminal.expect(PROMPT);
        terminal.enter("sleep 0.5; echo later.");
        assert!(!terminal.expect("later.").contains("n5"));
        terminal.expect(PROMPT);
        terminal.enter("fg");
        terminal.expect("n9.");
        terminal.expect(PROMPT);

        terminal.start("-c 'read line; echo got-$line; read line' | cat");
        terminal.wait_for_raw_mode();
        terminal.press("typed\n");
        // The other program ends its lines as in usual modes.
        terminal.expect("got-typed\r\n");
        terminal.press("\n");
        terminal.expect(PROMPT);

        terminal.enter(&format!("{} -c 'read line; echo got-$line.' &", terminal.sandbox.clone()));
        terminal.expect(PROMPT);
        terminal.enter("sleep 1");
        terminal.expect("Stopped");
        terminal.enter("fg");
        terminal.wait_for_raw_mode();
        terminal.press("again\n");
        terminal.expect("got-again.");
    });
}

#[test]
fn a_job_that_begins_in_the_background_gets_usual_modes_in_the_foreground() {
    in_each_setting(|mut terminal| {
        // This shell changes the modes of the terminal while it reads a line.
        terminal.resize(24, 200);
        terminal.enter("bash --norc --noprofile -i");
        terminal.expect(PROMPT);
        for ends in ["\x04", "\x03"] {
            terminal.start("cat &");
            // The job begins while the shell reads its next line.
            terminal.expect(PROMPT);
            terminal.wait_until_stopped();
            terminal.enter("fg");
            terminal.expect("cat");
            terminal.wait_for_raw_mode();
            terminal.press("typex\x7fd\n");
            terminal.expect("typex\x08 \x08d\r\ntyped\r\n");
            terminal.press("\x1a");
            terminal.expect("Stopped");
            terminal.expect(PROMPT);
            terminal.enter("fg");
            terminal.expect("cat");
            terminal.wait_for_raw_mode();
            terminal.press("again\n");
            terminal.expect("again\r\nagain\r\n");
            terminal.press(ends);
            terminal.expect(PROMPT);
            terminal.enter("stty -a");
            let modes = terminal.expect(PROMPT);
            for mode in ["icanon", "echo", "isig", "icrnl", "onlcr"] {
                assert!(modes.split_whitespace().any(|found| found == mode), "{mode}: {modes}");
            }
        }
    });
}
