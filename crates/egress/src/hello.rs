//! The server name of a TLS hello.

use rustls::server::Acceptor;

use crate::server_name;

/// State of a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// More bytes decide.
    Incomplete,
    /// The hello is whole.
    Whole(Contents),
    /// The bytes are no hello.
    Invalid,
}

/// Contents of a hello, as far as the gate uses them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The name of the server, or the address that stands in its place. Most clients send no name
    /// to an address.
    pub(crate) name: Option<String>,
    pub(crate) protocols: Protocols,
    /// The names of the other protocols, as a text for logs.
    pub(crate) others: String,
}

/// Protocols that a client offers inside TLS (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Protocols {
    pub(crate) http1: bool,
    pub(crate) http2: bool,
    /// Any other protocol, such as one of a database.
    pub(crate) other: bool,
}

pub(crate) const HTTP_1: &[u8] = b"http/1.1";
pub(crate) const HTTP_2: &[u8] = b"h2";
const HTTP_1_0: &[u8] = b"http/1.0";

/// A reader of one hello, from pieces.
#[derive(Default)]
pub(crate) struct Reader {
    acceptor: Acceptor,
    /// Bytes that the acceptor has.
    read: usize,
    done: Option<Hello>,
}

impl Reader {
    /// Reads the hello at the start of the bytes, which begin with those of earlier calls. It never
    /// takes an outer name of an encrypted hello for the inner one: only the outer name is visible,
    /// and it counts.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Hello {
        if let Some(done) = &self.done {
            return done.clone();
        }
        let hello = self.advance(bytes);
        if hello != Hello::Incomplete {
            self.done = Some(hello.clone());
        }
        hello
    }

    fn advance(&mut self, bytes: &[u8]) -> Hello {
        let mut rest = bytes.get(self.read..).unwrap_or_default();
        while !rest.is_empty() {
            match self.acceptor.read_tls(&mut rest) {
                Ok(0) | Err(_) => return Hello::Invalid,
                Ok(read) => self.read += read,
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let mut protocols = Protocols::default();
                    let mut others = String::new();
                    for protocol in hello.alpn().into_iter().flatten() {
                        match protocol {
                            HTTP_1 => protocols.http1 = true,
                            HTTP_2 => protocols.http2 = true,
                            // The same as no offer: clients read any version below 2.
                            HTTP_1_0 => {}
                            other => {
                                protocols.other = true;
                                append(&mut others, other);
                            }
                        }
                    }
                    let name = match hello.server_name() {
                        Some(name) => Some(name.to_owned()),
                        // rustls takes an address for no name, and servers may use it as one.
                        None => match server_name::raw(bytes) {
                            Ok(name) => name,
                            Err(server_name::Unreadable) => return Hello::Invalid,
                        },
                    };
                    return Hello::Whole(Contents { name, protocols, others });
                }
                Err(_) => return Hello::Invalid,
            }
        }
        Hello::Incomplete
    }
}

/// Adds the name of a protocol to a text, which stays short and has no control characters.
fn append(text: &mut String, name: &[u8]) {
    const MAX_BYTES: usize = 64;
    let clean = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
    let separator = if text.is_empty() { "" } else { ", " };
    text.extend(separator.chars().chain(name.iter().map(clean)));
    text.truncate(MAX_BYTES);
}

/// The record of a fatal alert `access_denied` (RFC 8446, section 6).
pub(crate) const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// Returns the hello that rustls sends for a name or an address.
    pub(crate) fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// Returns a hello with these bytes as the name of the server, which rustls would not send.
    fn hello_with_name(name: &[u8]) -> Vec<u8> {
        let stand_in: String = "a".repeat(name.len());
        let mut bytes = hello(&stand_in);
        let at = bytes.windows(name.len()).position(|part| part == stand_in.as_bytes()).unwrap();
        bytes[at..at + name.len()].copy_from_slice(name);
        bytes
    }

    /// Splits the message of a hello into records of a few bytes each.
    fn in_records(hello: &[u8], bytes_each: usize) -> Vec<u8> {
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1], &length[..], part].concat()
        };
        hello[5..].chunks(bytes_each).flat_map(record).collect()
    }

    fn read(bytes: &[u8]) -> Hello {
        Reader::default().read(bytes)
    }

    fn whole(name: Option<&str>) -> Hello {
        let name = name.map(str::to_owned);
        Hello::Whole(Contents { name, ..Contents::default() })
    }

    #[test]
    fn the_name_is_known_only_with_the_whole_hello() {
        let bytes = hello("allowed.test");
        let mut in_pieces = Reader::default();
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Hello::Incomplete, "{cut}");
            assert_eq!(in_pieces.read(&bytes[..cut]), Hello::Incomplete, "{cut}");
        }
        assert_eq!(read(&bytes), whole(Some("allowed.test")));
        assert_eq!(in_pieces.read(&bytes), read(&bytes));
        assert_eq!(read(&hello("192.0.2.1")), whole(None));
    }

    #[test]
    fn the_text_of_protocols_is_short_and_printable() {
        let mut text = String::new();
        for name in [&b"foo"[..], b"a\n\xe9", &[b'x'; 200], b"y"] {
            append(&mut text, name);
        }
        assert_eq!(text, format!("foo, a??, {}", "x".repeat(54)));
    }

    #[test]
    fn an_address_as_the_name_is_a_name() {
        for name in ["93.184.216.34", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
            let bytes = hello_with_name(name.as_bytes());
            assert_eq!(read(&bytes), whole(Some(name)));
            for bytes_each in [1, 7, 60, 200] {
                assert_eq!(read(&in_records(&bytes, bytes_each)), whole(Some(name)));
            }
        }
    }

    #[test]
    fn a_name_that_no_server_can_have_is_invalid() {
        let names: [&[u8]; 6] =
            [b"a\0b.test", b"allowed.test\n", b"[::1]", b"fe80::1%eth0", b"a b", b"\xff\xfe"];
        for name in names {
            assert_eq!(read(&hello_with_name(name)), Hello::Invalid, "{name:?}");
        }
    }

    #[test]
    fn other_records_before_the_hello_are_invalid() {
        for record in [&b"\x15\x03\x01\0\x02\x01\x64"[..], b"\x14\x03\x01\0\x01\x01"] {
            let bytes = [record, &hello("allowed.test")].concat();
            assert_eq!(read(&bytes), Hello::Invalid);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            read(&bytes);
            read(&[&b"\x16\x03\x01"[..], &bytes].concat());
        }

        #[test]
        fn a_changed_hello_never_panics(
            at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = hello("allowed.test");
            let at = at.index(bytes.len());
            bytes[at] = byte;
            read(&bytes);
            let _ = server_name::raw(&bytes);
        }
    }
}
