//! A virtual machine that loses its power: the emulator is killed while a program stores changes,
//! and the next start of the machine checks those that were acknowledged.
//!
//! A killed emulator loses the memory of the machine, so everything that was not flushed. What the
//! machine has written to its disk stays in the disk's image.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::{KERNEL, contents};
use crate::step::{Ended, Outcome, Runner};

/// Losses of power: the number of calls after which the emulator is killed, with a delay. The next
/// call is running then.
const LOSSES: [(u64, Duration); 4] = [
    (3, Duration::ZERO),
    (8, Duration::from_millis(40)),
    (13, Duration::from_millis(15)),
    (6, Duration::from_millis(110)),
];
/// Longest time between the start of the machine and its last line.
const TIME_LIMIT: Duration = Duration::from_secs(180);
const IMAGE_BYTES: u64 = 1 << 30;

/// Virtual machine with a disk that survives.
struct Machine<'m> {
    /// The emulator, with the arguments that choose the machine.
    qemu: &'m Command,
    kernel: &'m Path,
    root: PathBuf,
    disk: PathBuf,
    /// Further variables of the program.
    variables: &'static str,
}

/// End of a start of the machine.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The power was lost after this call was acknowledged.
    Lost(u64),
    /// The program ended with this exit code.
    Exit(String),
}

/// Runs the tests of artifact-sync in `program` on machines that lose their power.
pub(super) fn test(
    runner: &Runner,
    qemu: &Command,
    kernel: &Path,
    mkfs: &Path,
    program: &Path,
) -> Outcome {
    let directory = runner.directory().join("power");
    let prepared = prepare(runner, &directory, program);
    let root = prepared.map_err(|why| Ended::Failed(format!("the machine's root: {why}")))?;
    let machine = |name: &str, variables| -> Result<Machine<'_>, Ended> {
        let disk = directory.join(name);
        make_disk(runner, mkfs, &directory.join("content"), &disk)?;
        Ok(Machine { qemu, kernel, root: root.clone(), disk, variables })
    };
    let flushing = machine("disk", "")?;
    let mut acknowledged = 0;
    for loss in LOSSES {
        match flushing.start(runner, acknowledged, Some(loss))? {
            End::Lost(call) => acknowledged = call,
            End::Exit(code) => return Err(failed(&format!("the test ended with {code}"))),
        }
    }
    match flushing.start(runner, acknowledged, None)? {
        End::Exit(code) if code == "0" => {}
        end => return Err(failed(&format!("after the last loss of power: {end:?}"))),
    }
    // The check must find the loss if nothing is flushed.
    let control = machine("control", " ARTIFACT_SYNC_POWER_MEMORY=1")?;
    let End::Lost(acknowledged) = control.start(runner, 0, Some(LOSSES[1]))? else {
        return Err(failed("the test without flushes ended before the loss of power"));
    };
    match control.start(runner, acknowledged, None)? {
        End::Exit(code) if code == "101" => Ok(()),
        end => Err(failed(&format!("without flushes, the test must find a loss: {end:?}"))),
    }
}

/// Writes the machine's root and the content of its disk. Returns the file of the root.
fn prepare(runner: &Runner, directory: &Path, program: &Path) -> Result<PathBuf, String> {
    let content = directory.join("content");
    let error = |error: io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(&content).map_err(error)?;
    fs::copy(program, content.join("tests")).map_err(error)?;
    let root = directory.join("root.cpio");
    fs::write(&root, contents::with_disk(runner, program)?).map_err(error)?;
    Ok(root)
}

/// Creates the image of a disk with a file system.
fn make_disk(runner: &Runner, mkfs: &Path, content: &Path, disk: &Path) -> Outcome {
    let image = fs::File::create(disk).and_then(|image| image.set_len(IMAGE_BYTES));
    image.map_err(|error| failed(&format!("{}: {error}", disk.display())))?;
    let mut make = Command::new(mkfs);
    make.args(["-q", "-t", "ext4", "-d"]).arg(content).arg(disk);
    runner.command(make)
}

impl Machine<'_> {
    /// Starts the machine, which checks the acknowledged calls and makes more until its power is
    /// lost. Without a loss, it makes none.
    fn start(
        &self,
        runner: &Runner,
        acknowledged: u64,
        loss: Option<(u64, Duration)>,
    ) -> Result<End, Ended> {
        let log = runner.log()?;
        let mut emulator = self.emulator(acknowledged, loss.map_or(acknowledged, |_| u64::MAX));
        let mut emulator = emulator
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().map_err(io_failed)?)
            .spawn()
            .map_err(|error| failed(&format!("the emulator does not start: {error}")))?;
        let stdout = emulator.stdout.take().ok_or_else(|| failed("the emulator has no console"))?;
        let mut console = Console { lines: lines_of(stdout), log, acknowledged };
        let end = console.follow(loss.map(|(calls, _)| acknowledged + calls));
        if let (Ok(None), Some((_, delay))) = (&end, loss) {
            thread::sleep(delay);
        }
        emulator.kill().and_then(|()| emulator.wait()).map_err(io_failed)?;
        match end? {
            Some(code) => Ok(End::Exit(code)),
            None => {
                // Calls that were acknowledged until the end count too.
                while console.next(TIME_LIMIT)?.is_some() {}
                Ok(End::Lost(console.acknowledged))
            }
        }
    }

    fn emulator(&self, acknowledged: u64, last: u64) -> Command {
        let mut emulator = Command::new(self.qemu.get_program());
        emulator.args(self.qemu.get_args());
        emulator.args(["-smp", "2", "-m", "1G", "-nographic", "-no-reboot", "-nic", "none"]);
        emulator.arg("-kernel").arg(self.kernel).arg("-initrd").arg(&self.root);
        emulator.arg("-drive");
        emulator.arg(format!("file={},format=raw,if=none,id=disk", self.disk.display()));
        emulator.args(["-device", "nvme,serial=power,drive=disk", "-append"]);
        emulator.arg(format!(
            "console=ttyS0 {KERNEL} rdinit=/init ARTIFACT_SYNC_POWER_PLACE=/mnt \
             ARTIFACT_SYNC_POWER_ACKNOWLEDGED={acknowledged} ARTIFACT_SYNC_POWER_LAST={last}{}",
            self.variables
        ));
        emulator
    }
}

/// Console of a machine, which shows the calls that the program has acknowledged.
struct Console {
    lines: Receiver<String>,
    log: fs::File,
    /// Number of the last acknowledged call.
    acknowledged: u64,
}

impl Console {
    /// Follows the console until a call is acknowledged, or the program has ended. Returns its exit
    /// code then.
    fn follow(&mut self, until: Option<u64>) -> Result<Option<String>, Ended> {
        let deadline = Instant::now() + TIME_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.next(left)?.ok_or_else(|| failed("the machine ended early"))?;
            if let Some(code) = line.strip_prefix("ended with ") {
                return Ok(Some(code.to_owned()));
            }
            if until.is_some_and(|until| self.acknowledged >= until) {
                return Ok(None);
            }
        }
    }

    /// Returns the next line, or `None` at the end.
    fn next(&mut self, left: Duration) -> Result<Option<String>, Ended> {
        let line = match self.lines.recv_timeout(left) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => return Err(failed("the machine takes too long")),
        };
        writeln!(self.log, "{line}").map_err(io_failed)?;
        let call = line.strip_prefix("acknowledged ").and_then(|call| call.parse().ok());
        self.acknowledged = call.unwrap_or(self.acknowledged);
        Ok(Some(line))
    }
}

/// Returns the lines of a machine's console as they arrive.
fn lines_of(console: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn failed(why: &str) -> Ended {
    Ended::Failed(why.to_owned())
}

fn io_failed(error: io::Error) -> Ended {
    failed(&error.to_string())
}
