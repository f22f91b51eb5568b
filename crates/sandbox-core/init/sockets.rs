//! Connections between the Unix sockets of a session (`unix(7)`).
//!
//! A path leads to the socket of any process that has bound it, and neither a network namespace nor
//! a read-only mount prevents that. So no command connects a socket by itself:
//!
//! 1. When a command calls `listen`, init keeps an `O_PATH` descriptor of the file that the socket
//!    is bound to. The kernel returns it (`SIOCUNIXFILE`) for sockets of the session's network
//!    namespace only. The call then goes on.
//! 2. When a command calls `connect`, init copies the descriptor and the address, finds the file,
//!    and compares it with those that it keeps. Init connects the copy to the kept file itself. So
//!    a path that changes meanwhile leads nowhere else.
//! 3. Init connects to abstract names, and to internet addresses, unchanged. They belong to the
//!    network namespace. The call of the command never goes on.
//!
//! A kept descriptor keeps the inode, and a socket is always bound to a new inode. So no socket of
//! the host can ever be bound to a kept one.
//!
//! Init never waits in a call. A connection that has to wait is tried again, until it succeeds or
//! its caller is gone. The accepting process sees init as its peer (`SO_PEERCRED`).

use crate::creation::terminated;
use crate::pool::Pool;
use crate::sys::{self, Answer, CStr, Errno, Fd, FileId, Notification, Result, c};

/// Maximum number of files of listening sockets that init keeps. A further one replaces the oldest.
const MAX_FILES: usize = 256;
/// Maximum number of connections that wait at the same time.
const MAX_WAITING: usize = 64;
/// Interval between two attempts to connect.
const RETRY_MS: i32 = 2;

/// Maximum length of an address for the kernel (`struct sockaddr_storage`).
const MAX_ADDRESS_BYTES: usize = 128;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// Port of name servers.
const DNS_PORT: u16 = 53;

/// Sockets of a session.
pub struct OwnSockets {
    /// Lets init's own connections through the filter.
    secret: [u64; 2],
    /// Files of listening sockets.
    files: [Option<(FileId, Fd)>; MAX_FILES],
    /// Position of the oldest file.
    oldest: usize,
    waiting: [Option<Connection>; MAX_WAITING],
}

/// A call of `connect` that has no answer yet.
struct Connection {
    id: u64,
    /// Copy of the caller's descriptor.
    socket: Fd,
    /// The caller expects the call to wait, because its socket does not have `O_NONBLOCK`.
    waits: bool,
    to: Destination,
}

enum Destination {
    /// The file of a socket.
    File(FileId),
    /// An address in the network namespace.
    Address([u8; MAX_ADDRESS_BYTES], usize),
}

impl Destination {
    /// Returns whether a connection with this result would need a network. A name server needs one
    /// wherever it is: no command can bind its port.
    fn is_unroutable(&self, result: Result<()>) -> bool {
        let Self::Address(address, length) = self else { return false };
        let Some((family, rest)) = address[..*length].split_first_chunk() else { return false };
        let Some((port, _)) = rest.split_first_chunk() else { return false };
        matches!(u16::from_ne_bytes(*family), AF_INET | AF_INET6)
            && (result == Err(Errno::NETUNREACH) || u16::from_be_bytes(*port) == DNS_PORT)
    }
}

impl OwnSockets {
    pub fn new(secret: [u64; 2]) -> Self {
        Self {
            secret,
            files: [const { None }; MAX_FILES],
            oldest: 0,
            waiting: [const { None }; MAX_WAITING],
        }
    }

    /// Keeps the file of a socket that is about to listen. After a failure no process can connect
    /// to it by its path.
    pub fn note(&mut self, asked: &Notification) {
        let Ok(socket) = sys::copy_descriptor(asked.pid, asked.arguments[0] as Fd) else { return };
        let file = sys::file_of_socket(socket);
        sys::close(socket);
        let Ok(file) = file else { return };
        match sys::file_id(file) {
            Ok(id) if self.file(id).is_none() => {
                if let Some((_, replaced)) = self.files[self.oldest].replace((id, file)) {
                    sys::close(replaced);
                }
                self.oldest = (self.oldest + 1) % MAX_FILES;
            }
            _ => sys::close(file),
        }
    }

    /// Connects the socket of a caller, and answers now or later.
    pub fn connect(&mut self, listener: Fd, asked: &Notification, pool: &Pool) {
        match begin(listener, asked) {
            Ok(connection) => self.go_on(listener, connection, pool),
            Err(errno) => sys::answer(listener, asked.id, Answer::Fail(errno)),
        }
    }

    /// Returns the time until the next attempt, if any connection waits.
    pub fn retry_ms(&self) -> Option<i32> {
        self.waiting.iter().any(Option::is_some).then_some(RETRY_MS)
    }

    /// Tries the waiting connections again.
    pub fn retry(&mut self, listener: Fd, pool: &Pool) {
        for at in 0..MAX_WAITING {
            let Some(connection) = self.waiting[at].take() else { continue };
            if sys::is_asked(listener, connection.id) {
                self.go_on(listener, connection, pool);
            } else {
                sys::close(connection.socket);
            }
        }
    }

    fn go_on(&mut self, listener: Fd, connection: Connection, pool: &Pool) {
        let attempted = self.attempt(&connection);
        if attempted.is_some_and(|result| connection.to.is_unroutable(result)) {
            pool.note_unroutable();
        }
        let answer = match attempted {
            Some(Ok(())) => Answer::Done,
            Some(Err(errno)) => Answer::Fail(errno),
            None => match self.waiting.iter_mut().find(|place| place.is_none()) {
                Some(place) => {
                    *place = Some(connection);
                    return;
                }
                None => Answer::Fail(Errno::AGAIN),
            },
        };
        sys::close(connection.socket);
        sys::answer(listener, connection.id, answer);
    }

    /// Tries to connect. Returns `None` if the caller has to wait.
    fn attempt(&self, connection: &Connection) -> Option<Result<()>> {
        let mut buffer = [0; MAX_ADDRESS_BYTES];
        let address = match &connection.to {
            Destination::Address(address, length) => &address[..*length],
            Destination::File(id) => match self.file(*id) {
                Some(file) => path_address(&mut buffer, file),
                // The socket is one of the host, or no process listens on it.
                None => return Some(Err(Errno::CONNREFUSED)),
            },
        };
        // A connection over the loopback is usually there at the second attempt.
        for _ in 0..2 {
            match self.connect_now(connection, address) {
                Err(Errno::AGAIN | Errno::INPROGRESS | Errno::ALREADY) if connection.waits => {}
                other => return Some(other),
            }
        }
        None
    }

    /// Connects without waiting, and without init's capabilities.
    fn connect_now(&self, connection: &Connection, address: &[u8]) -> Result<()> {
        let Connection { socket, waits, .. } = *connection;
        let connect =
            || sys::without_capabilities(|| sys::connect_with(socket, address, self.secret));
        if !waits {
            return connect();
        }
        // The flag belongs to the open socket, which the caller shares.
        let flags = sys::status_flags(socket)?;
        sys::set_status_flags(socket, flags | sys::O_NONBLOCK)?;
        let connected = connect();
        sys::set_status_flags(socket, flags)?;
        connected
    }

    fn file(&self, id: FileId) -> Option<Fd> {
        self.files.iter().flatten().find(|(kept, _)| *kept == id).map(|(_, file)| *file)
    }
}

/// Reads the arguments of a call.
fn begin(listener: Fd, asked: &Notification) -> Result<Connection> {
    let [fd, at, length, ..] = asked.arguments;
    // The kernel uses the lower half, as an `int`.
    let length = usize::try_from(length as i32).map_err(|_| Errno::INVAL)?;
    let mut address = [0; MAX_ADDRESS_BYTES];
    let given = address.get_mut(..length).ok_or(Errno::INVAL)?;
    if length > 0 {
        sys::read_memory(asked.pid, at, given)?;
    }
    let socket = sys::copy_descriptor(asked.pid, fd as Fd)?;
    let begin = || {
        let waits = sys::status_flags(socket)? & sys::O_NONBLOCK == 0;
        let to = match path_of(&address[..length]) {
            Some(path) if sys::is_unix_socket(socket)? => Destination::File(find(asked.pid, path)?),
            _ => Destination::Address(address, length),
        };
        // Another process may have the same process id by now.
        if !sys::is_asked(listener, asked.id) {
            return Err(Errno::INTR);
        }
        Ok(Connection { id: asked.id, socket, waits, to })
    };
    begin().inspect_err(|_| sys::close(socket))
}

/// Returns the path in an address. It is empty, and the address is no path, if its first byte is a
/// NUL.
fn path_of(address: &[u8]) -> Option<&[u8]> {
    let (family, path) = address.split_first_chunk()?;
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
    (u16::from_ne_bytes(*family) == AF_UNIX && end > 0).then_some(&path[..end])
}

/// Finds the file at a path of the caller.
fn find(pid: i32, path: &[u8]) -> Result<FileId> {
    let mut buffer = [0; 4096];
    let mut digits = [0; 10];
    let process = sys::decimal(&mut digits, pid as u32);
    // Init is another process than the caller, with another `/proc/self`.
    let (begin, rest): (&[&[u8]], &[u8]) = if let Some(rest) = path.strip_prefix(b"/proc/self/") {
        (&[b"/proc/", process], rest)
    } else if let Some(rest) = path.strip_prefix(b"/dev/fd/") {
        (&[b"/proc/", process, b"/fd"], rest)
    } else if path.starts_with(b"/") {
        (&[b"/"], path)
    } else {
        (&[b"/proc/", process, b"/cwd"], path)
    };
    let mut text = [b"".as_slice(); 3];
    text[..begin.len()].copy_from_slice(begin);
    let begin = terminated(&mut buffer, &text).ok_or(Errno::INVAL)?;
    let begin = sys::open(sys::AT_FDCWD, begin, sys::O_PATH | sys::O_DIRECTORY, 0)?;
    let id = terminated(&mut buffer, &[rest]).ok_or(Errno::INVAL).and_then(|rest| {
        let file = sys::without_capabilities(|| sys::open(begin, rest, sys::O_PATH, 0))?;
        let id = sys::file_id(file);
        sys::close(file);
        id
    });
    sys::close(begin);
    id
}

/// Returns an address that leads to an open file.
fn path_address(buffer: &mut [u8; MAX_ADDRESS_BYTES], file: Fd) -> &[u8] {
    const BEGIN: CStr<'static> = c(b"/proc/self/fd/\0");
    let mut digits = [0; 10];
    let mut end = 2;
    buffer[..end].copy_from_slice(&AF_UNIX.to_ne_bytes());
    for part in [BEGIN.bytes(), sys::decimal(&mut digits, file as u32), b"\0"] {
        buffer[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    &buffer[..end]
}
