//! System-call tables: the numbers, the rules of the filters, and the positions of arguments.
//!
//! Init and the host both compile this file. Init takes its call numbers and the meaning of
//! notified calls from it, and the host builds the filters from it. So a call that the kernel
//! reports to init always has a row here.

#[path = "aarch64.rs"]
pub mod aarch64;
#[path = "x86_64.rs"]
pub mod x86_64;

/// The kernel interface of one processor architecture.
#[derive(Debug)]
pub struct Architecture {
    /// Name of the architecture, as in `std::env::consts::ARCH`.
    pub name: &'static str,
    /// `AUDIT_ARCH_…`, by which a filter recognises the calls of this architecture
    /// (`linux/audit.h`).
    pub audit: u32,
    /// Highest call number that has been reviewed; the filter answers `ENOSYS` to later ones.
    pub last_reviewed: u32,
    /// `O_DIRECTORY` of `open(2)`.
    pub o_directory: usize,
    /// `O_NOFOLLOW` of `open(2)`.
    pub o_nofollow: usize,
    /// The calls, in ascending order of their numbers.
    pub calls: &'static [Call],
}

/// One system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub number: u32,
    pub name: &'static str,
    /// Rules of the filters; a call without a rule is allowed.
    pub rules: &'static [Rule],
    pub paths: &'static [PathArgument],
    pub address: Option<AddressArgument>,
}

/// A rule of the filters for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Denied to all processes of a session, init included.
    Denied,
    /// Denied to commands; init and workers need the call.
    DeniedToCommands,
    /// Denied to commands in a session without namespaces.
    DeniedWithoutNamespaces,
    /// Changes the attributes of a file, which Landlock does not control. In a session without
    /// namespaces it is denied, unless the caller of the engine accepted that weakness.
    ChangesAttributes,
    /// Affects the process whose id is in an argument. In a session without namespaces the argument
    /// must be 0, which means the caller.
    AffectsProcess {
        /// Position of the process id.
        process: u8,
    },
    /// Affects a process, a process group or a user. In a session without namespaces the arguments
    /// must select the calling process.
    AffectsSelected {
        /// Value of the first argument that selects one process.
        which: u32,
        /// Position of the process id.
        process: u8,
    },
    /// Can create a name. The kernel asks init first, if the session has creation rules.
    Notified(Condition),
    /// Can reach a socket of the host. In a session with Unix sockets of its own, the kernel asks
    /// init, which connects for the caller.
    AnsweredByInit,
    /// Changes the mode of a file or a directory. Commands must not set the set-user-id bit. Init
    /// sets the set-group-id bit of a directory for them.
    ChangesMode {
        /// Position of the mode.
        mode: u8,
    },
    /// Gives a new file a mode. Commands must not set the set-user-id and set-group-id bits.
    SetsMode {
        /// Position of the mode.
        mode: u8,
    },
    /// Gives a file that it may create a mode, with the same restriction.
    SetsModeOfNew {
        /// Position of the flags. Without a flag that creates a file, the mode has no meaning.
        flags: u8,
        /// Position of the mode.
        mode: u8,
    },
    /// Answered as if the kernel did not have it, because its arguments are in memory, where a
    /// filter cannot read them. Programs then use an older call.
    Absent,
    /// Decided by its arguments, in a block of its own in `filter.rs`.
    ByArguments,
}

/// Condition under which the kernel asks init about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Every call.
    Always,
    /// Calls with `O_CREAT` among the flags in an argument.
    CreateFlag {
        /// Position of the flags.
        flags: u8,
    },
    /// Calls without init's own tag in the upper half of a mode.
    Untagged {
        /// Position of the mode.
        mode: u8,
    },
}

/// Position of a path among the arguments of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathArgument {
    pub directory: Directory,
    /// Position of the pointer to the path.
    pub path: u8,
    pub creates: Creates,
}

/// Directory in which a relative path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// The working directory of the caller.
    Working,
    /// The directory of the descriptor in an argument.
    Argument(u8),
}

/// The name that a call creates at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creates {
    /// No name.
    Nothing,
    /// The name of a file, or of a directory that exists already.
    Name,
    /// The name of an empty directory.
    Directory,
    /// The name of a symlink.
    Symlink,
    /// A name, if the flags in an argument have `RENAME_EXCHANGE`.
    NameIfExchanged {
        /// Position of the flags.
        flags: u8,
    },
}

/// Position of a socket address among the arguments of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressArgument {
    /// A pointer to the address, and the length of the address.
    Direct {
        /// Position of the pointer.
        address: u8,
        /// Position of the length.
        length: u8,
    },
    /// A pointer to a `struct msghdr`, which begins with a pointer to the address and its length.
    InMessage {
        /// Position of the pointer.
        message: u8,
    },
    /// A pointer to an array of `struct mmsghdr`, each of which begins with a `struct msghdr`.
    InMessages {
        /// Position of the pointer.
        messages: u8,
        /// Position of the number of elements.
        count: u8,
    },
}

/// `O_CREAT` of `open(2)`, the same on every architecture in these tables.
pub const O_CREAT: u32 = 0o100;
/// `RENAME_EXCHANGE` of `renameat2(2)`.
const RENAME_EXCHANGE: u64 = 2;
/// `AT_FDCWD` as a descriptor.
const WORKING_DIRECTORY: i32 = -100;

/// A path at which a call creates a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedName {
    /// Descriptor of the directory in which a relative path starts.
    pub directory: i32,
    /// Address of the path in the caller's memory.
    pub path: u64,
    pub kind: CreatedKind,
}

/// Kind of a new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreatedKind {
    /// A new file, or an existing file or directory.
    Any,
    /// An empty directory.
    Directory,
    /// A symlink.
    Symlink,
}

impl Architecture {
    /// Returns the number of calls about which the kernel can ask init.
    pub const fn count_notified(&self) -> usize {
        let (mut at, mut count) = (0, 0);
        while at < self.calls.len() {
            if self.calls[at].notified().is_some() {
                count += 1;
            }
            at += 1;
        }
        count
    }

    /// Returns the calls about which the kernel can ask init; `N` is their number.
    pub const fn notified_calls<const N: usize>(&self) -> [Call; N] {
        let mut notified = [self.calls[0]; N];
        let (mut at, mut count) = (0, 0);
        while at < self.calls.len() {
            if self.calls[at].notified().is_some() {
                notified[count] = self.calls[at];
                count += 1;
            }
            at += 1;
        }
        notified
    }

    /// Returns the number of a call that this architecture has.
    ///
    /// # Panics
    /// If the table has no row with the name. In a constant the compiler reports that.
    pub const fn number(&self, name: &str) -> u32 {
        match self.find(name) {
            Some(number) => number,
            None => panic!("the system-call table has no such row"),
        }
    }

    /// Returns the number of a call, or `None` if this architecture does not have it.
    pub const fn find(&self, name: &str) -> Option<u32> {
        let mut at = 0;
        while at < self.calls.len() {
            if is_same(self.calls[at].name, name) {
                return Some(self.calls[at].number);
            }
            at += 1;
        }
        None
    }
}

impl Call {
    /// Returns the condition under which the kernel asks init about this call.
    pub const fn notified(&self) -> Option<Condition> {
        let mut at = 0;
        while at < self.rules.len() {
            if let Rule::Notified(condition) = self.rules[at] {
                return Some(condition);
            }
            at += 1;
        }
        None
    }

    /// Returns the names that the call creates with `arguments`.
    pub fn created_names(&self, arguments: [u64; 6]) -> impl Iterator<Item = CreatedName> {
        let at = move |position: u8| arguments[usize::from(position)];
        self.paths.iter().filter_map(move |argument| {
            let kind = match argument.creates {
                Creates::Name => CreatedKind::Any,
                Creates::Directory => CreatedKind::Directory,
                Creates::Symlink => CreatedKind::Symlink,
                Creates::NameIfExchanged { flags } if at(flags) & RENAME_EXCHANGE != 0 => {
                    CreatedKind::Any
                }
                Creates::NameIfExchanged { .. } | Creates::Nothing => return None,
            };
            let directory = match argument.directory {
                Directory::Working => WORKING_DIRECTORY,
                // A descriptor is an `int`; the kernel ignores the upper half.
                Directory::Argument(position) => at(position) as i32,
            };
            Some(CreatedName { directory, path: at(argument.path), kind })
        })
    }
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

// Constructors that keep a row of a table on few lines.

/// Creates a row for a call without paths and addresses.
const fn call(number: u32, name: &'static str, rules: &'static [Rule]) -> Call {
    Call { number, name, rules, paths: &[], address: None }
}

/// Creates a row for a call with paths.
const fn path_call(
    number: u32,
    name: &'static str,
    rules: &'static [Rule],
    paths: &'static [PathArgument],
) -> Call {
    Call { number, name, rules, paths, address: None }
}

/// Creates a row for a call with a socket address.
const fn address_call(
    number: u32,
    name: &'static str,
    rules: &'static [Rule],
    address: AddressArgument,
) -> Call {
    Call { number, name, rules, paths: &[], address: Some(address) }
}

/// A path that is relative to the working directory.
const fn path(path: u8, creates: Creates) -> PathArgument {
    PathArgument { directory: Directory::Working, path, creates }
}

/// A path that is relative to the directory in an argument.
const fn path_at(directory: u8, path: u8, creates: Creates) -> PathArgument {
    PathArgument { directory: Directory::Argument(directory), path, creates }
}
