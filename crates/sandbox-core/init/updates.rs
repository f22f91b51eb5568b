//! Requests of the host to an open session: updates of the plan, and the network.

use crate::network;
use crate::reader::Reader;
use crate::supervisor::Supervisor;
use crate::sys::{self, Errno, Fd, MAX_FDS, Mapping, Result};
use crate::wire;
use crate::worker::Session;

/// Maximum length of a request: two words, and the ports.
const MAX_BYTES: usize = 8 + 4 * wire::MAX_PORTS;

/// Receives one request, and answers it.
pub fn answer(socket: Fd, session: &mut Session) {
    let (mut buffer, mut fds) = ([0; MAX_BYTES], [-1; MAX_FDS]);
    let Ok((length, count)) = sys::receive(socket, &mut buffer, &mut fds) else { return };
    let secret = session.supervisor.as_ref().map_or([0; 2], Supervisor::secret);
    let mut request = Reader(&buffer[..length]);
    match (request.u32(), count) {
        (Ok(wire::BODY_IN_FILE), 1) => {
            let errno = update(session, fds[0]).err().map_or(0, |Errno(errno)| errno);
            sys::close(fds[0]);
            let _ = sys::send(socket, &errno.to_le_bytes());
        }
        (Ok(wire::REQUEST_NETWORK), 0) => session.network.open(socket, request, secret),
        (Ok(wire::REQUEST_DIAL), 0) => network::dial(socket, request, secret),
        (Ok(wire::REQUEST_CREATIONS), 0) => {
            let mut answer = [0; 8];
            answer[4..].copy_from_slice(&session.pool.creations().to_le_bytes());
            let _ = sys::send(socket, &answer);
        }
        _ => {}
    }
}

/// Applies an update of the plan.
fn update(session: &mut Session, file: Fd) -> Result<()> {
    let file = Mapping::of(file)?;
    let mut reader = Reader(file.bytes());
    session.tier.add(&mut reader)?;
    let at = file.bytes().len() - reader.0.len();
    match &mut session.supervisor {
        Some(supervisor) => supervisor.replace(file, at),
        None => Ok(()),
    }
}
