//! Modes with which a file runs as its owner or its group.
//!
//! The host may have other users, and nothing but the mode would distinguish such a file there. The
//! kernel ignores both bits in the mode of a new directory.

use super::assembler::{Assembler, Instruction, argument, ret, skip_unless_any};
use super::sockets::notify_without;
use super::table::{Architecture, O_CREAT, Rule};
use super::{ALLOW, EPERM, NOTIFY};

/// `S_ISUID` and `S_ISGID` (`inode(7)`).
const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
/// `__O_TMPFILE` (`asm-generic/fcntl.h`), the same on every architecture in the tables.
const O_TMPFILE: u32 = 0o20_000_000;

/// Answer to a call that sets the set-group-ID bit of an existing file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetGroupId {
    Denied,
    /// The kernel asks init, which sets the bit of a directory.
    AnsweredByInit,
}

impl Assembler {
    /// Lets the kernel ask init about the set-group-ID bit of an existing file or directory, unless
    /// init itself sets it with the secret. Without a secret there is no init that answers.
    pub(super) fn ask_about_set_group_id(&mut self, architecture: &Architecture, secret: [u64; 2]) {
        if secret == [0; 2] {
            return;
        }
        for call in architecture.calls {
            for rule in call.rules {
                let Rule::ChangesMode { mode } = *rule else { continue };
                let body: &[Instruction] = match call.name {
                    // Init makes this call, which leaves the arguments of the secret unused.
                    "fchmodat" => {
                        let verdict = notify_without(secret);
                        let allow = 8;
                        &[&[argument(mode), skip_unless_any(SET_GROUP_ID, allow)], &verdict[..]]
                            .concat()
                    }
                    _ => {
                        &[argument(mode), skip_unless_any(SET_GROUP_ID, 1), ret(NOTIFY), ret(ALLOW)]
                    }
                };
                self.if_equal(call.number, body);
            }
        }
    }

    /// Denies the modes that no command may set.
    pub(super) fn deny_special_modes(
        &mut self,
        architecture: &Architecture,
        set_group_id: SetGroupId,
    ) {
        let denied = SET_USER_ID | SET_GROUP_ID;
        let changed = match set_group_id {
            SetGroupId::Denied => denied,
            SetGroupId::AnsweredByInit => SET_USER_ID,
        };
        let deny = |mode, bits| [argument(mode), skip_unless_any(bits, 1), ret(EPERM), ret(ALLOW)];
        for call in architecture.calls {
            for rule in call.rules {
                match *rule {
                    Rule::ChangesMode { mode } => self.if_equal(call.number, &deny(mode, changed)),
                    Rule::SetsMode { mode } => self.if_equal(call.number, &deny(mode, denied)),
                    Rule::SetsModeOfNew { flags, mode } => {
                        let creates = [argument(flags), skip_unless_any(O_CREAT | O_TMPFILE, 3)];
                        let block = [&creates[..], &deny(mode, denied)].concat();
                        self.if_equal(call.number, &block);
                    }
                    _ => {}
                }
            }
        }
    }
}
