//! Records of TLS, and the handshake message in the first ones.

/// The type of a record with a handshake message.
pub(crate) const HANDSHAKE: u8 = 22;
/// Bytes of the head of a record.
pub(crate) const RECORD_HEAD: usize = 5;
/// Bytes of the head of a handshake message.
const MESSAGE_HEAD: usize = 4;

/// Returns the bytes of the records of the first handshake message, the length of the message, and
/// the end of these records. The result is `None` if other records come first, or if the
/// message is not whole.
fn with_excess(bytes: &[u8]) -> Option<(Vec<u8>, usize, usize)> {
    let (mut end, mut message) = (0, Vec::new());
    loop {
        let next = end_of(bytes, end).filter(|_| bytes[end] == HANDSHAKE)?;
        message.extend_from_slice(bytes.get(end + RECORD_HEAD..next)?);
        end = next;
        if let Some([_, high, middle, low]) = message.first_chunk() {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize + MESSAGE_HEAD;
            if message.len() >= length {
                return Some((message, length, end));
            }
        }
    }
}

/// Returns the first handshake message with its head.
pub(crate) fn message(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut message, length, _) = with_excess(bytes)?;
    message.truncate(length);
    Some(message)
}

/// Returns the end of the first handshake message, if its last record has nothing else.
pub(crate) fn end_of_message(bytes: &[u8]) -> Option<usize> {
    let (message, length, end) = with_excess(bytes)?;
    (message.len() == length).then_some(end)
}

/// Returns the end of the record at a place, which may be behind the bytes.
pub(crate) fn end_of(bytes: &[u8], at: usize) -> Option<usize> {
    let head = bytes.get(at..at + RECORD_HEAD)?;
    Some(at + RECORD_HEAD + usize::from(u16::from_be_bytes([head[3], head[4]])))
}
