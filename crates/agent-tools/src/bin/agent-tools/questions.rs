//! Questions on the terminal, which the output of a command can neither imitate nor cover.
//!
//! A command may print anything to the same terminal, also a question of its own. So its output
//! waits while a question is open, and the question begins with the state of a new terminal. An
//! answer counts only if it was typed after the whole question was shown for a while.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::time::Duration;

use agent_tools::policy::Host;
use agent_tools::{Answer, Ask, printable};
use async_trait::async_trait;
use sandbox_core::discard_input;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::failure::Failure;
use crate::origins;

/// The time for which a question is shown before an answer counts. What was typed for a question
/// that a command has imitated is discarded after it.
const PAUSE: Duration = Duration::from_millis(500);
/// The flag of `open(2)` for reads that do not wait.
const NONBLOCKING: i32 = 0o4000;
const BUFFER_BYTES: usize = 64 * 1024;

/// Ends what a command may have begun or changed, and begins a line in colours of its own, so that
/// no other palette hides it:
///
/// 1. CAN and ST end an unfinished control sequence and an unfinished string, such as a title.
/// 2. The alternate screen is left at the same position, and the margins are those of the screen.
/// 3. A soft reset (DECSTR) ends hidden text, other character sets, and modes of the cursor.
/// 4. Lines wrap, the cursor is shown, and no movement of a mouse is input.
/// 5. The rest of the screen is cleared from a new line on.
const NEW_LINE: &str = concat!(
    "\x18\x1b\\",
    "\x1b7\x1b[?1049l\x1b7\x1b[r\x1b8",
    "\x1b[!p\x1b[0m\x0f\x1b(B\x1b[4l",
    "\x1b[?7h\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l",
    "\r\n\x1b[J\x1b[0;38;2;255;255;255;48;2;0;0;0m",
);
const USUAL_COLOURS: &str = "\x1b[0m";

/// The turn to write to the terminal: for a question, or for a piece of a command's output.
static TURN: Mutex<()> = Mutex::const_new(());
/// Closed once no command waits for an answer.
static IS_WANTED: Semaphore = Semaphore::const_new(0);

/// A user at the terminal of this process.
#[derive(Debug)]
pub(crate) struct Terminal {
    output: File,
    input: pipe::Receiver,
}

impl Terminal {
    /// Opens the terminal that controls this process. The caller is in a runtime.
    pub(crate) fn open() -> Result<Self, Failure> {
        let open = || -> io::Result<Self> {
            let output = File::options().write(true).open("/dev/tty")?;
            let input = File::options().read(true).custom_flags(NONBLOCKING).open("/dev/tty")?;
            // A terminal is read like a pipe.
            Ok(Self { output, input: pipe::Receiver::from_file_unchecked(input)? })
        };
        open().map_err(|error| {
            let ask = origins::name("--ask");
            Failure::not_run_text(format!("{ask} needs a terminal: cannot open /dev/tty: {error}"))
        })
    }

    /// Asks until the answer is `y` or `n`.
    async fn question(&self, target: &str) -> io::Result<Answer> {
        let question =
            format!("{NEW_LINE}agent-tools: may commands connect to {}? ", printable(target));
        loop {
            write(&self.output, question.clone().into_bytes()).await?;
            tokio::time::sleep(PAUSE).await;
            discard_input(&self.input)?;
            write(&self.output, format!("[y/n] {USUAL_COLOURS}").into_bytes()).await?;
            match self.line().await?.trim().to_lowercase().as_str() {
                "y" | "yes" => return Ok(Answer::Allow),
                "n" | "no" => return Ok(Answer::Deny),
                _ => {}
            }
        }
    }

    /// Reads a line.
    async fn line(&self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut buffer = [0; 4096];
        while !line.ends_with(b"\n") {
            self.input.readable().await?;
            match self.input.try_read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => line.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

#[async_trait]
impl Ask for Terminal {
    async fn ask(&self, host: &Host, port: u16) -> Answer {
        let target = host.with_port(port);
        let _turn = TURN.lock().await;
        tokio::select! {
            biased;
            _ = IS_WANTED.acquire() => Answer::Deny,
            // An end of the input denies, and a terminal that is gone does too.
            answer = self.question(&target) => answer.unwrap_or(Answer::Deny),
        }
    }
}

/// Output of a command that waits while a question is open.
#[derive(Debug, Default)]
pub(crate) struct HeldOutput {
    streams: Vec<JoinHandle<io::Result<()>>>,
}

impl HeldOutput {
    /// Returns a descriptor for the command, in the place of this one. No
    /// question is shown on a file, so the command gets that itself.
    pub(crate) fn stream(&mut self, to: OwnedFd) -> io::Result<OwnedFd> {
        let to = File::from(to);
        if to.metadata()?.is_file() {
            return Ok(to.into());
        }
        let (reader, writer) = io::pipe()?;
        let reader = pipe::Receiver::from_owned_fd(reader.into())?;
        self.streams.push(tokio::spawn(pass_on(reader, to)));
        Ok(writer.into())
    }

    /// Ends an open question, because the command has ended, and passes on the rest of its output.
    /// With a limit, a reader that does not read is not waited for.
    ///
    /// # Errors
    /// Returns the first failure to write.
    pub(crate) async fn finish(self, limit: Option<Duration>) -> io::Result<()> {
        if self.streams.is_empty() {
            return Ok(());
        }
        IS_WANTED.close();
        let rest = async {
            for stream in self.streams {
                stream.await.map_err(io::Error::other)??;
            }
            Ok(())
        };
        match limit {
            Some(limit) => tokio::time::timeout(limit, rest).await.unwrap_or(Ok(())),
            None => rest.await,
        }
    }
}

/// Passes on a stream, piece by piece, each when no question is open.
async fn pass_on(mut from: pipe::Receiver, to: File) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let _turn = TURN.lock().await;
        match write(&to, buffer[..count].to_vec()).await {
            // The reader wants no more output, which is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
}

/// Writes in another thread, because a terminal can be stopped.
async fn write(to: &File, bytes: Vec<u8>) -> io::Result<()> {
    let mut to = to.try_clone()?;
    spawn_blocking(move || to.write_all(&bytes)).await.map_err(io::Error::other)?
}

/// Returns whether two descriptors lead to one file, pipe or terminal.
pub(crate) fn are_one(a: &OwnedFd, b: &OwnedFd) -> io::Result<bool> {
    let identity = |descriptor: &OwnedFd| {
        let metadata = File::from(descriptor.try_clone()?).metadata()?;
        io::Result::Ok((metadata.dev(), metadata.ino()))
    };
    Ok(identity(a)? == identity(b)?)
}
