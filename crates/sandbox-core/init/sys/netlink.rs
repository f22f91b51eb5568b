//! Messages to the kernel about the network namespace (`netlink(7)`).

use super::{Errno, Fd, O_CLOEXEC, O_NONBLOCK, Result, close};

const NETLINK_ROUTE: usize = 0;
const NETLINK_NETFILTER: usize = 12;

/// Flags of a request: `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_CREATE` and `NLM_F_APPEND`.
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

const NLMSG_ERROR: u16 = 2;
/// Bit in the kind of an attribute that contains others.
const NESTED: u16 = 0x8000;
/// Length of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// Opens a socket to the part of the kernel that filters packets.
///
/// Its number is higher than those of init's other descriptors, which so stay the same with and
/// without it. Init follows `/proc/self/fd` in a path of a command to its own descriptors.
pub fn netfilter_socket() -> Result<Fd> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    const LOWEST: usize = 100;
    let socket = netlink_socket(NETLINK_NETFILTER)?;
    let moved = sys!(fcntl, socket, F_DUPFD_CLOEXEC, LOWEST).map(|fd| fd as Fd);
    close(socket);
    moved
}

fn netlink_socket(protocol: usize) -> Result<Fd> {
    // AF_NETLINK, SOCK_RAW
    sys!(socket, 16, 3 | O_CLOEXEC | O_NONBLOCK, protocol).map(|fd| fd as Fd)
}

/// Sends messages about addresses and routes.
pub fn change_routes(messages: &NetlinkMessages) -> Result<()> {
    let socket = netlink_socket(NETLINK_ROUTE)?;
    let changed = messages.send(socket);
    close(socket);
    changed
}

/// Messages for one call. The kernel acknowledges each, except those that delimit a batch.
pub struct NetlinkMessages {
    bytes: [u8; 1024],
    len: usize,
    acknowledgements: usize,
    is_too_long: bool,
}

impl NetlinkMessages {
    pub fn new() -> Self {
        Self { bytes: [0; 1024], len: 0, acknowledgements: 0, is_too_long: false }
    }

    /// Adds a message that creates an object. `fixed` is the structure before the attributes.
    pub fn create(&mut self, kind: u16, fixed: &[u8], attributes: impl FnOnce(&mut Self)) {
        self.acknowledgements += 1;
        self.message(kind, REQUEST | ACKNOWLEDGE | CREATE, fixed, attributes);
    }

    /// Like [`NetlinkMessages::create`], for an object after all others of its kind.
    pub fn append(&mut self, kind: u16, fixed: &[u8], attributes: impl FnOnce(&mut Self)) {
        self.acknowledgements += 1;
        self.message(kind, REQUEST | ACKNOWLEDGE | CREATE | APPEND, fixed, attributes);
    }

    /// Adds a message that delimits a batch.
    pub fn delimiter(&mut self, kind: u16, fixed: &[u8]) {
        self.message(kind, REQUEST, fixed, |_| ());
    }

    fn message(&mut self, kind: u16, flags: u16, fixed: &[u8], attributes: impl FnOnce(&mut Self)) {
        let begin = self.len;
        self.add(&[0; HEADER_BYTES]);
        self.add(fixed);
        attributes(self);
        let length = (self.len - begin) as u32;
        self.set(begin, &length.to_ne_bytes());
        self.set(begin + 4, &kind.to_ne_bytes());
        self.set(begin + 6, &flags.to_ne_bytes());
    }

    /// Adds an attribute, padded to 4 bytes.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (4 + value.len()) as u16;
        self.add(&length.to_ne_bytes());
        self.add(&kind.to_ne_bytes());
        self.add(value);
        self.add(&[0; 3][..value.len().next_multiple_of(4) - value.len()]);
    }

    /// Adds an attribute that contains others.
    pub fn nested(&mut self, kind: u16, attributes: impl FnOnce(&mut Self)) {
        let begin = self.len;
        self.add(&[0; 4]);
        attributes(self);
        let length = (self.len - begin) as u16;
        self.set(begin, &length.to_ne_bytes());
        self.set(begin + 2, &(kind | NESTED).to_ne_bytes());
    }

    fn add(&mut self, bytes: &[u8]) {
        self.set(self.len, bytes);
        self.len += bytes.len();
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        match self.bytes.get_mut(at..at + bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => self.is_too_long = true,
        }
    }

    /// Sends the messages, and returns the first error of the kernel. It has answered when the call
    /// returns.
    pub fn send(&self, socket: Fd) -> Result<()> {
        if self.is_too_long {
            return Err(Errno::TOO_BIG);
        }
        if super::write(socket, &self.bytes[..self.len])? != self.len {
            return Err(Errno::INVAL);
        }
        let mut acknowledged = 0;
        let mut buffer = [0; 4096];
        loop {
            match super::read(socket, &mut buffer) {
                Ok(length) => acknowledged += read_answers(&buffer[..length])?,
                Err(Errno::AGAIN) if acknowledged == self.acknowledgements => return Ok(()),
                // A change without an acknowledgement may not have happened.
                Err(Errno::AGAIN) => return Err(Errno::INVAL),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Returns the number of acknowledgements, or the first error.
fn read_answers(mut answers: &[u8]) -> Result<usize> {
    let mut count = 0;
    // struct nlmsghdr, and the errno of struct nlmsgerr
    while let Some((head, _)) = answers.split_first_chunk::<{ HEADER_BYTES + 4 }>() {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if u16::from_ne_bytes([head[4], head[5]]) == NLMSG_ERROR {
            match i32::from_ne_bytes([head[16], head[17], head[18], head[19]]) {
                0 => count += 1,
                errno => return Err(Errno(-errno)),
            }
        }
        answers = answers.get(length.next_multiple_of(4).max(HEADER_BYTES)..).unwrap_or(&[]);
    }
    Ok(count)
}
