//! Servers that ask for a second TLS hello.

use std::sync::Arc;

use rustls::crypto::ring::kx_group::SECP384R1;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::fixture::{ACCESS_DENIED, Origin, Session, exactly, hello, rest, soon};

const CHANGE_CIPHER_SPEC: &[u8] = &[20, 3, 3, 0, 1, 1];
/// Early data of one byte.
const EARLY: &[u8] = &[23, 3, 3, 0, 1, 7];
/// The warning `user_canceled`, after which a server goes on.
const WARNING: &[u8] = &[21, 3, 3, 0, 2, 1, 90];
/// A record of no known type.
const UNKNOWN: &[u8] = &[24, 3, 3, 0, 1, 1];

/// Returns the hello of a server that asks for another one of the client (RFC 8446, section 4.1.3).
fn retry() -> Vec<u8> {
    let random = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8,
        0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8,
        0x33, 0x9c,
    ];
    let body = [&[3, 3][..], &random, &[0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]].concat();
    let length = body.len() as u8;
    [&[22, 3, 3, 0, length + 4, 2, 0, 0, length][..], &body].concat()
}

/// A server that asks for a second hello, and then returns every byte.
async fn asking() -> Origin {
    Origin::serving(|mut stream, received| async move {
        let mut buffer = vec![0; 1 << 16];
        let mut answer = retry();
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            received(&buffer[..count]);
            answer.extend_from_slice(&buffer[..count]);
            if stream.write_all(&std::mem::take(&mut answer)).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_second_hello_for_another_host_is_answered_with_an_alert() {
    let first = hello("allowed.test");
    let second = hello("denied.test");
    let mut fragmented = Vec::new();
    for part in second[5..].chunks(100) {
        fragmented.extend([22, 3, 3, 0, part.len() as u8]);
        fragmented.extend(part);
    }
    for (before, second) in [
        (&b""[..], &second),
        (CHANGE_CIPHER_SPEC, &second),
        (&[EARLY, CHANGE_CIPHER_SPEC, EARLY].concat(), &second),
        (CHANGE_CIPHER_SPEC, &fragmented),
        (WARNING, &second),
        (&[WARNING, CHANGE_CIPHER_SPEC].concat(), &second),
        (UNKNOWN, &second),
    ] {
        for is_early in [false, true] {
            let (session, origin) = (Session::open(), asking().await);
            let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
            client.write_all(&first).await.unwrap();
            let answer = [&retry(), &first[..]].concat();
            if !is_early {
                assert_eq!(exactly(&mut client, answer.len()).await, answer);
            }
            client.write_all(&[before, second].concat()).await.unwrap();
            if is_early {
                assert_eq!(exactly(&mut client, answer.len()).await, answer);
            }
            let echoed = [before, ACCESS_DENIED].concat();
            // What is before the hello may come back before the connection ends.
            let last = rest(&mut client).await.into_bytes();
            assert!(String::from_utf8_lossy(&echoed).ends_with(&*String::from_utf8_lossy(&last)));
            assert!(last.ends_with(ACCESS_DENIED), "{last:?}");
            assert!(!origin.received().contains("denied.test"));
            let reason = match before {
                UNKNOWN => "the TLS hello cannot be read",
                _ => "the connection names another host: denied.test",
            };
            assert_eq!(session.denial(), format!("allowed.test: {reason}"));
        }
    }
}

#[tokio::test]
async fn a_hello_with_more_in_its_record_is_unreadable() {
    let (first, second) = (hello("allowed.test"), hello("denied.test"));
    let messages = [&first[5..], &second[5..]].concat();
    let length = (messages.len() as u16).to_be_bytes();
    let record = [&[22, 3, 1, length[0], length[1]][..], &messages].concat();
    let (session, origin) = (Session::open(), asking().await);
    let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    client.write_all(&record).await.unwrap();
    assert_eq!(exactly(&mut client, ACCESS_DENIED.len()).await, ACCESS_DENIED);
    assert_eq!(origin.received(), "");
}

#[tokio::test]
async fn a_client_that_is_asked_for_a_second_hello_connects() {
    let own = rcgen::generate_simple_self_signed(["allowed.test".to_owned()]).unwrap();
    let root = own.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    // The client's first key is for another group.
    let mut provider = rustls::crypto::ring::default_provider();
    provider.kx_groups = vec![SECP384R1];
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![root.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let origin = Origin::serving(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            assert_eq!(stream.get_ref().1.server_name(), Some("allowed.test"));
            let word = [stream.read_u8().await.unwrap(); 4];
            stream.write_all(&word).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    })
    .await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = Session::open();
    let client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    let name = ServerName::try_from("allowed.test").unwrap();
    let mut client =
        soon(TlsConnector::from(Arc::new(config)).connect(name, client)).await.unwrap();
    client.write_all(b"x").await.unwrap();
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "xxxx");
}
