//! Init's answers to calls about which the kernel asks it (`seccomp_unotify(2)`).

use crate::arch::ARCHITECTURE;
use crate::creation::Rules;
use crate::modes;
use crate::pool::Pool;
use crate::sockets::OwnSockets;
use crate::sys::{self, Answer, Errno, Fd, Mapping, Result};

const CONNECT: u32 = ARCHITECTURE.number("connect");
const LISTEN: u32 = ARCHITECTURE.number("listen");

/// The receiver of the kernel's questions.
pub struct Supervisor {
    listener: Fd,
    /// Tag in the mode of a directory that init creates (`mkdirat(2)`), in bits that the kernel
    /// ignores. The filter allows calls with the tag, because init cannot answer its own question.
    bypass_tag: usize,
    rules: Rules,
    /// Lets the calls of init through the filter.
    secret: [u64; 2],
    /// `None` in a session without Unix sockets.
    sockets: Option<OwnSockets>,
}

impl Supervisor {
    /// Reads the rules in a file from `at`, and loads a filter by which the kernel asks about the
    /// calls of this process and of its future children. `secret` lets init's own calls
    /// through the filter; it is zero if the kernel asks about no such call.
    ///
    /// Init itself must not wait for its own answer. So afterwards it creates no name except
    /// directories with the tag. It connects no socket, and sets no set-group-ID bit, without the
    /// secret.
    pub fn start(
        file: Mapping,
        at: usize,
        filter: &[u8],
        bypass_tag: u32,
        secret: [u64; 2],
    ) -> Result<Self> {
        let rules = Rules::read(file, at)?;
        Ok(Self {
            listener: sys::load_notifying_filter(filter)?,
            bypass_tag: (bypass_tag as usize) << 32,
            rules,
            secret,
            sockets: (secret != [0; 2]).then(|| OwnSockets::new(secret)),
        })
    }

    /// Returns the bits to add to the mode of a directory that init creates.
    pub fn bypass_tag(&self) -> usize {
        self.bypass_tag
    }

    /// Returns the numbers that let the calls of init through the filter.
    pub fn secret(&self) -> [u64; 2] {
        self.secret
    }

    /// Replaces the creation rules.
    pub fn replace(&mut self, file: Mapping, at: usize) -> Result<()> {
        self.rules = Rules::read(file, at)?;
        Ok(())
    }

    /// Returns a descriptor that becomes readable when the kernel asks.
    pub fn listener(&self) -> Fd {
        self.listener
    }

    /// Answers one question. A connection that would have to wait is answered later.
    pub fn answer(&mut self, pool: &Pool) {
        // The caller may have been killed in the meantime.
        let Ok(asked) = sys::next_notification(self.listener) else { return };
        let answer = match (asked.call, &mut self.sockets) {
            (call, _) if modes::is_change(call) => {
                match modes::change(self.listener, &asked, self.secret) {
                    Ok(()) => Answer::Done,
                    Err(errno) => Answer::Fail(errno),
                }
            }
            (CONNECT, Some(sockets)) => {
                return sockets.connect(self.listener, &asked, pool);
            }
            (LISTEN, Some(sockets)) => {
                sockets.note(&asked);
                Answer::Continue
            }
            (CONNECT | LISTEN, None) => Answer::Fail(Errno::PERM),
            _ => match self.rules.check(&asked, pool) {
                Ok(()) => Answer::Continue,
                Err(errno) => Answer::Fail(errno),
            },
        };
        sys::answer(self.listener, asked.id, answer);
    }

    /// Returns the time after which [`Supervisor::retry`] is due, if any connection waits.
    pub fn retry_ms(&self) -> Option<i32> {
        self.sockets.as_ref().and_then(OwnSockets::retry_ms)
    }

    /// Tries the waiting connections again.
    pub fn retry(&mut self, pool: &Pool) {
        if let Some(sockets) = &mut self.sockets {
            sockets.retry(self.listener, pool);
        }
    }
}
