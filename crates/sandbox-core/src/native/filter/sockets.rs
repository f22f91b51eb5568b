//! The sockets of a session: policy and blocks of the filter.

use std::fmt;

use super::assembler::{
    Assembler, Instruction, and, argument, ret, skip_if_equal, skip_unless_equal, upper_half,
};
use super::table::{Architecture, Rule};
use super::{ALLOW, EPERM, NOTIFY};

pub(super) const EAFNOSUPPORT: u32 = 0x0005_0000 | 97;

const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const SOCK_STREAM: u32 = 1;
const SOCK_SEQPACKET: u32 = 5;

/// Policy for new Unix sockets. By itself a socket reaches every other one that the session can see
/// in the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::native) enum UnixSockets {
    /// Connected pairs only.
    Denied,
    /// Stream and packet sockets that reach others of the session, because init connects them.
    Own(Secret),
    /// All. The secret marks other calls of init.
    Allowed(Secret),
}

/// Random numbers that mark init's own calls. A command that knew them could reach the sockets of
/// the host, and set the set-group-ID bit of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::native) struct Secret(pub(super) [u64; 2]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    fn new() -> rustix::io::Result<Self> {
        let mut random = [[0; 8]; 2];
        let flags = rustix::rand::GetRandomFlags::empty();
        let filled = rustix::rand::getrandom(random.as_flattened_mut(), flags)?;
        // A part would be a weaker secret. The kernel never returns one for so few bytes.
        if filled != 16 {
            return Err(rustix::io::Errno::AGAIN);
        }
        Ok(Self(random.map(u64::from_ne_bytes)))
    }
}

impl UnixSockets {
    /// Returns the policy of a session with sockets of its own, with a new secret.
    pub(in crate::native) fn own() -> rustix::io::Result<Self> {
        Secret::new().map(Self::Own)
    }

    /// Returns the policy of a session with all sockets, with a new secret.
    pub(in crate::native) fn allowed() -> rustix::io::Result<Self> {
        Secret::new().map(Self::Allowed)
    }

    /// Returns the numbers for init, which are zero without Unix sockets.
    pub(in crate::native) fn secret(self) -> [u64; 2] {
        match self {
            Self::Own(Secret(numbers)) | Self::Allowed(Secret(numbers)) => numbers,
            Self::Denied => [0; 2],
        }
    }
}

impl Assembler {
    /// Denies sockets that reach outside the network namespace. Sockets of the session are
    /// connected by init.
    pub(super) fn restrict_sockets(
        &mut self,
        architecture: &Architecture,
        unix_sockets: UnixSockets,
    ) {
        // Distance from the check of the domain to a verdict below, or to the check of the type.
        let to_unix = match unix_sockets {
            UnixSockets::Allowed(_) => 3,
            UnixSockets::Denied => 4,
            UnixSockets::Own(_) => 6,
        };
        self.if_equal(
            architecture.number("socket"),
            &[
                argument(0),
                skip_if_equal(AF_INET, 5),
                skip_if_equal(AF_INET6, 4),
                skip_if_equal(AF_UNIX, to_unix),
                skip_unless_equal(AF_NETLINK, 4),
                argument(2),
                // NETLINK_ROUTE, which lists the interfaces of the namespace.
                skip_unless_equal(0, 1),
                ret(ALLOW),
                ret(EPERM),
                ret(EAFNOSUPPORT),
                argument(1),
                and(0xf),
                skip_if_equal(SOCK_STREAM, 1),
                skip_unless_equal(SOCK_SEQPACKET, 1),
                ret(ALLOW),
                ret(EPERM),
            ],
        );
        // A datagram socket sends to any path, without a connection. The path of `sendmsg(2)` is in
        // memory, where a filter cannot read it.
        if !matches!(unix_sockets, UnixSockets::Allowed(_)) {
            self.if_equal(
                architecture.number("socketpair"),
                &[
                    argument(1),
                    and(0xf),
                    skip_if_equal(SOCK_STREAM, 1),
                    skip_unless_equal(SOCK_SEQPACKET, 1),
                    ret(ALLOW),
                    ret(EPERM),
                ],
            );
        }
        if let UnixSockets::Own(secret) = unix_sockets {
            for call in architecture.calls {
                if call.rules.contains(&Rule::AnsweredByInit) {
                    self.if_equal(call.number, &notify_without(secret.0));
                }
            }
        }
    }
}

/// Returns the block for a call about which the kernel asks init, unless init itself makes it with
/// the secret in the arguments 3 and 4, which no such call uses.
pub(super) fn notify_without([first, second]: [u64; 2]) -> [Instruction; 10] {
    let halves = |number: u64| {
        let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
        (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
    };
    let ((a, b), (c, d)) = (halves(first), halves(second));
    [
        argument(3),
        skip_unless_equal(a, 7),
        upper_half(3),
        skip_unless_equal(b, 5),
        argument(4),
        skip_unless_equal(c, 3),
        upper_half(4),
        skip_unless_equal(d, 1),
        ret(ALLOW),
        ret(NOTIFY),
    ]
}
