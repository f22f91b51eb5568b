//! The server name of a hello as it is sent, also if it is no name (RFC 6066, section 3).

use crate::records;

/// A hello whose extensions cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Bytes of the head of a handshake message.
const MESSAGE_HEAD: usize = 4;
/// Bytes of the version and of the random value of a hello.
const VERSION_AND_RANDOM: usize = 2 + 32;
const SERVER_NAME: usize = 0;
const HOST_NAME: usize = 0;

/// Returns the server name in the hello at the start of the bytes, or `None` if the hello has no
/// such extension.
pub(crate) fn raw(bytes: &[u8]) -> Result<Option<String>, Unreadable> {
    let message = records::message(bytes).ok_or(Unreadable)?;
    let mut rest = message.get(MESSAGE_HEAD..).ok_or(Unreadable)?;
    take(&mut rest, VERSION_AND_RANDOM)?;
    // The session, the ciphers, and the compressions.
    for length_bytes in [1, 2, 1] {
        vector(&mut rest, length_bytes)?;
    }
    if rest.is_empty() {
        return Ok(None);
    }
    let mut extensions = vector(&mut rest, 2)?;
    while !extensions.is_empty() {
        let kind = number(&mut extensions, 2)?;
        let mut extension = vector(&mut extensions, 2)?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut names = vector(&mut extension, 2)?;
        if number(&mut names, 1)? != HOST_NAME {
            return Err(Unreadable);
        }
        let name = std::str::from_utf8(vector(&mut names, 2)?).map_err(|_| Unreadable)?;
        return Ok(Some(name.to_owned()));
    }
    Ok(None)
}

/// Takes a vector whose length is in front of it.
fn vector<'b>(bytes: &mut &'b [u8], length_bytes: usize) -> Result<&'b [u8], Unreadable> {
    let length = number(bytes, length_bytes)?;
    take(bytes, length)
}

fn number(bytes: &mut &[u8], count: usize) -> Result<usize, Unreadable> {
    Ok(take(bytes, count)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Result<&'b [u8], Unreadable> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Unreadable)?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::tests::hello;

    #[test]
    fn a_hello_without_the_extension_has_no_name() {
        assert_eq!(raw(&hello("allowed.test")), Ok(Some("allowed.test".to_owned())));
        assert_eq!(raw(&hello("192.0.2.1")), Ok(None));
        // A hello of TLS 1.2 without extensions.
        let hello = [&[3, 3][..], &[0; 32], &[0, 0, 2, 0, 47, 1, 0]].concat();
        let length = u8::try_from(hello.len()).unwrap();
        let record = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length], &hello[..]].concat();
        assert_eq!(raw(&record), Ok(None));
        assert_eq!(raw(&record[..record.len() - 1]), Err(Unreadable));
    }
}
