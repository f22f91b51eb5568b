//! Properties of the parts that read hostile bytes, for fuzz targets. It is no part of the API.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;
use hyper::Request;
use policy::{Host, NetworkConfig, NetworkPolicy};
use secrets::{Mask, Masks, SecretString, Substitution};
use tokio::runtime::{Builder, Runtime};

use crate::connections::Connections;
use crate::event::Via;
use crate::hello::{Hello, Reader};
use crate::judge::{self, Content, Target};
use crate::limits::Limits;
use crate::resolve::Resolver;
use crate::secure::Secure;
use crate::session::{Session, Shared};
use crate::sigv4::{self, Reading};
use crate::socks::{self, Parsed};
use crate::{dns, first_bytes};

/// Checks that the protocol of a client, once known, does not change with more bytes.
pub fn first_bytes(bytes: &[u8]) {
    let whole = first_bytes::protocol(bytes);
    let (greeting, request) = (socks::greeting(bytes), socks::request(bytes));
    for cut in 0..bytes.len() {
        let (known, _) = bytes.split_at(cut);
        let protocol = first_bytes::protocol(known);
        assert!(protocol.is_none() || protocol == whole, "{cut}");
        let (early, early_request) = (socks::greeting(known), socks::request(known));
        assert!(early == Parsed::Incomplete || early == greeting, "{cut}");
        assert!(early_request == Parsed::Incomplete || early_request == request, "{cut}");
    }
}

/// Checks that a hello in two pieces is the same as the whole one.
pub fn client_hello(bytes: &[u8]) {
    let whole = Reader::default().read(bytes);
    let cut = bytes.last().map_or(0, |last| usize::from(*last) % bytes.len());
    let mut pieces = Reader::default();
    let first = pieces.read(&bytes[..cut]);
    assert_eq!(pieces.read(bytes), whole);
    assert!(first == Hello::Incomplete || first == whole);
    if let Hello::Whole(contents) = whole {
        assert!(contents.name.is_none_or(|name| name.is_ascii()));
    }
}

/// Checks that an answer belongs to its query, and that a denied name is never resolved.
pub fn dns_query(bytes: &[u8]) {
    let (runtime, session) = world();
    let Some(answer) = runtime.block_on(dns::answer(session, bytes)) else { return };
    let answer = Message::from_vec(&answer).unwrap_or_else(|error| panic!("{error}"));
    let Ok(query) = Message::from_vec(bytes) else {
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
        assert_eq!(answer.metadata.id.to_be_bytes(), bytes[..2]);
        assert!(answer.answers.is_empty());
        return;
    };
    assert_eq!(answer.metadata.id, query.metadata.id);
    assert!(answer.queries.is_empty() || answer.queries == query.queries);
    for record in &answer.answers {
        let name = record.name.to_ascii();
        let is_allowed = Host::parse(&name).is_ok_and(|host| session.policy().reaches(&host));
        match &record.data {
            RData::A(address) if address.is_loopback() => assert!(is_loopback(&name)),
            RData::A(address) => {
                assert_eq!(address.octets()[0], 198);
                assert_eq!(address.octets()[1], if is_allowed { 18 } else { 19 }, "{name}");
            }
            RData::AAAA(_) => assert!(is_loopback(&name)),
            other => panic!("{other:?}"),
        }
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    }
}

fn is_loopback(name: &str) -> bool {
    Host::parse(name).is_ok_and(|host| host.is_loopback())
}

/// Checks that all spellings of a host lead to the same decision.
pub fn canonical_host(text: &str) {
    let Ok(host) = Host::parse(text) else { return };
    let (_, session) = world();
    let canonical = host.to_string();
    let to = |host: &Host| Target { host: host.clone(), port: 443, via: Via::Proxy };
    assert!(judge::same_host(&to(&host), &canonical).is_ok(), "{canonical}");
    assert!(judge::same_host(&to(&host), text).is_ok(), "{canonical}");
    let again = Host::parse(&canonical).unwrap_or_else(|error| panic!("{canonical} {error}"));
    let decide = |host: &Host| judge::target(&session.policy(), &to(host), Content::Tunnel, None);
    assert_eq!(decide(&host), decide(&again));
}

/// Checks that a substitution in pieces gives the result of the whole, and touches no placeholder
/// of another host. In the text, the bytes 1, 2 and 3 stand for the two placeholders and a part.
pub fn substitute(bytes: &[u8]) {
    static MASKS: OnceLock<Masks> = OnceLock::new();
    let masks = MASKS.get_or_init(|| {
        let mask = |name: &str, value: &str| Mask::new(name, SecretString::from(value), ["a.test"]);
        // With letters at its ends, a value and the text beside it could spell a placeholder.
        let masks = [mask("A", "<first value>"), mask("B", "<another, longer value of a secret>")];
        Masks::new(masks).unwrap_or_else(|error| panic!("{error}"))
    });
    let placeholder = |name| masks.placeholder(name).unwrap_or_default().as_bytes();
    let (own, other) = (placeholder("A"), placeholder("B"));
    let mut text = Vec::new();
    for byte in bytes {
        match byte {
            1 => text.extend_from_slice(own),
            2 => text.extend_from_slice(other),
            3 => text.extend_from_slice(&own[..own.len() / 2]),
            byte => text.push(*byte),
        }
    }
    let substitution = Substitution::new(masks.iter().take(1));
    let whole = substitution.replace(&text).map_or_else(|| text.clone(), |text| text.to_vec());
    let step = bytes.first().map_or(1, |first| usize::from(*first).max(1));
    let (mut stream, mut out) = (substitution.stream(), Vec::new());
    for piece in text.chunks(step) {
        stream.push(piece, &mut out);
    }
    stream.finish(&mut out);
    assert_eq!(out, whole);
    let places = |text: &[u8], part: &[u8]| -> Vec<usize> {
        let windows = text.windows(part.len()).enumerate();
        windows.filter(|(_, window)| *window == part).map(|(at, _)| at).collect()
    };
    assert!(places(&whole, own).is_empty());
    // The text can continue the end of one placeholder to the other, which is then no longer there.
    let replaced = places(&text, own);
    let remains = places(&text, other).into_iter().filter(|at| {
        replaced.iter().all(|own_at| at + other.len() <= *own_at || own_at + own.len() <= *at)
    });
    assert!(places(&whole, other).len() >= remains.count());
}

/// Checks that signing anew with the placeholder repeats the signature, and that another key gives
/// a signature which that key verifies. The input is a URL, a line feed, and the body.
pub fn sigv4(text: &str) {
    let (uri, body) = text.split_once('\n').unwrap_or((text, ""));
    let credential = "AKID/20260101/eu-west-1/s3/aws4_request";
    let authorization = |signature: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, \
             Signature={signature}"
        )
    };
    let request = Request::builder()
        .uri(format!("/{uri}"))
        .header("host", "a.test")
        .header("x-amz-date", "20260101T000000Z")
        .header("authorization", authorization("0"));
    let Ok(request) = request.body(()) else { return };
    let (mut head, ()) = request.into_parts();
    let (placeholder, real) = (SecretString::from("placeholder"), SecretString::from("real"));
    let Reading::Signed(unsigned) = sigv4::read(&head) else { panic!("unsigned: {uri}") };
    for form in 0..4 {
        let Some(signature) = unsigned.made_with(&head, form, body.as_bytes(), &placeholder) else {
            return;
        };
        let signed = authorization(&signature);
        let Ok(signed) = signed.try_into() else { return };
        head.headers.insert("authorization", signed);
        let again = |head: &hyper::http::request::Parts| match sigv4::read(head) {
            Reading::Signed(signature) => signature,
            other => panic!("{other:?}"),
        };
        for key in [&placeholder, &real] {
            let keys = [(placeholder.clone(), key.clone())];
            let Some(resign) = again(&head).find_key(&head, body.as_bytes(), &keys) else {
                panic!("the signature is not found")
            };
            let mut sent = head.clone();
            assert!(resign.sign(&mut sent).is_some());
            let same = sent.headers["authorization"] == head.headers["authorization"];
            assert_eq!(same, std::ptr::eq(key, &placeholder));
            let keys = [(key.clone(), key.clone())];
            assert!(again(&sent).find_key(&sent, body.as_bytes(), &keys).is_some());
        }
    }
}

/// A resolver that knows every name.
#[derive(Debug)]
struct AllNames;

#[async_trait]
impl Resolver for AllNames {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![IpAddr::from([192, 0, 2, 1])])
    }
}

/// Returns a session that may reach `a.test` and the names below it.
fn world() -> (&'static Runtime, &'static Session) {
    static WORLD: OnceLock<(Runtime, Session)> = OnceLock::new();
    let (runtime, session) = WORLD.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
        let mut network = NetworkConfig::default();
        network.allowed_domains = ["a.test", "*.a.test"].map(str::to_owned).to_vec();
        let policy = NetworkPolicy::compile(&network).unwrap_or_else(|error| panic!("{error}"));
        let limits = Limits::default();
        let secure = Secure::new(&limits, None, b"").unwrap_or_else(|error| panic!("{error}"));
        let connections = Arc::new(Connections::new(1));
        let resolver = Arc::new(AllNames);
        let shared = Shared { resolver, limits, secure, parent: None, connections };
        (runtime, Session::new(Arc::new(shared), policy, Arc::new(())))
    });
    (runtime, session)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::{Name, RecordType};
    use proptest::prelude::*;

    use super::*;
    use crate::hello::tests::hello;

    /// Returns bytes that are text with a few others in it.
    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            4 => prop::sample::select(&b"GET /HTP1.\r\n:a\x05\x01\x00\x03\x16\x02"[..]),
            1 => any::<u8>(),
        ];
        prop::collection::vec(byte, 0..200)
    }

    proptest! {
        #[test]
        fn first_bytes_hold(bytes in lines()) {
            first_bytes(&bytes);
        }

        #[test]
        fn client_hellos_hold(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = hello("allowed.test");
            let at = at.index(bytes.len());
            bytes[at] = byte;
            client_hello(&bytes);
        }

        #[test]
        fn queries_hold(
            name in "[aA]\\.test|[a-c]{1,3}\\.(a\\.)?test|localhost|(x\\.){1,40}b",
            kind in prop::sample::select(vec![1_u16, 28, 12, 16, 65, 64, 255, 252]),
            at in any::<prop::sample::Index>(),
            byte in prop::option::of(any::<u8>()),
        ) {
            let mut query = Message::query();
            let name = Name::from_ascii(format!("{name}.")).unwrap();
            query.add_query(Query::query(name, RecordType::from(kind)));
            let mut bytes = query.to_vec().unwrap();
            if let Some(byte) = byte {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            dns_query(&bytes);
        }

        #[test]
        fn hosts_hold(text in "[aA0-9.:xX\\[\\]%é-]{1,20}|[a-c]\\.[aA]\\.test\\.?") {
            canonical_host(&text);
        }

        #[test]
        fn substitutions_hold(bytes in prop::collection::vec(0..6_u8, 0..60)) {
            substitute(&bytes);
        }

        #[test]
        fn signatures_hold(text in "[a-z%/2fF ?=&+~()]{0,40}(\n[a-z]{0,9})?") {
            sigv4(&text);
        }
    }
}
