//! Refusals in SSH: a disconnection with a text, before keys are exchanged (RFC 4253).

/// The start of a client's identification (section 4.2).
const CLIENT: &[u8] = b"SSH-2.0-";
/// The identification of a server.
const SERVER: &[u8] = b"SSH-2.0-egress\r\n";
/// The message `SSH_MSG_DISCONNECT`, and its reason for a host that is not allowed (section 11.1).
const DISCONNECT: u8 = 1;
const NOT_ALLOWED: u32 = 1;
/// Packets without a cipher have a multiple of this length, and at least this padding (section 6).
const BLOCK: usize = 8;
const MIN_PADDING: usize = 4;
/// Bytes of a text. OpenSSH prints 400.
const MAX_TEXT: usize = 400;

/// Returns whether a client has sent the start of its identification.
pub(crate) fn is_client(bytes: &[u8]) -> bool {
    bytes.starts_with(CLIENT)
}

/// Returns all that a server sends to a client that it refuses.
pub(crate) fn refusal(text: &str) -> Vec<u8> {
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    let mut payload = vec![DISCONNECT];
    payload.extend(NOT_ALLOWED.to_be_bytes());
    // The text, and the empty name of its language.
    for part in [text, ""] {
        payload.extend(word(part.len()));
        payload.extend_from_slice(part.as_bytes());
    }
    // The length of the packet has 4 bytes, and that of the padding has one.
    let unpadded = 4 + 1 + payload.len();
    let padding = (unpadded + MIN_PADDING).next_multiple_of(BLOCK) - unpadded;
    let mut message = SERVER.to_vec();
    message.extend(word(1 + payload.len() + padding));
    message.push(u8::try_from(padding).unwrap_or(u8::MAX));
    message.extend(payload);
    message.resize(message.len() + padding, 0);
    message
}

fn word(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_packet_of_whole_blocks() {
        for length in 0..500 {
            let text = "é".repeat(length);
            let message = refusal(&text);
            let packet = message.strip_prefix(SERVER).unwrap();
            let (head, rest) = packet.split_first_chunk().unwrap();
            assert_eq!(u32::from_be_bytes(*head) as usize, rest.len());
            assert_eq!(packet.len() % BLOCK, 0, "{length}");
            let padding = usize::from(rest[0]);
            assert!((MIN_PADDING..BLOCK + MIN_PADDING).contains(&padding), "{padding}");
            let payload = &rest[1..rest.len() - padding];
            assert_eq!(payload[..5], [1, 0, 0, 0, 1]);
            let (size, text) = payload[5..].split_first_chunk().unwrap();
            let (text, language) = text.split_at(u32::from_be_bytes(*size) as usize);
            assert_eq!((text.len(), language), ((2 * length).min(MAX_TEXT), &[0; 4][..]));
        }
    }

    #[test]
    fn only_version_2_is_answered() {
        assert!(is_client(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n"));
        assert!(!is_client(b"SSH-1.5-old\n") && !is_client(b"SSH-2.0") && !is_client(b""));
    }
}
