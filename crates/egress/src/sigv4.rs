//! AWS Signature Version 4: a signature that a session made with placeholders is made anew.
//!
//! The rules are those of "Signature Version 4 signing process" in AWS's documentation. A request
//! keeps its scope, date and list of signed headers.

mod canonical;

use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::http::request::Parts;
use ring::{digest, hmac};
use secrets::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use canonical::{Form, query_without_signature};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The algorithm of version 4A, whose keys are derived in another way.
const ASYMMETRIC: &str = "AWS4-ECDSA-P256-SHA256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// A body in signed chunks. Each chunk would need a signature.
const STREAMING: &str = "STREAMING-AWS4-";

/// The signature of a request, as the session made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    carrier: Carrier,
    key_id: String,
    /// `date/region/service/aws4_request`.
    scope: String,
    date: String,
    signed_headers: Vec<String>,
    signature: String,
    payload: Payload,
}

/// Part of a request that has the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    /// The header `Authorization`.
    Header,
    /// The query of a URL: a presigned request.
    Query,
}

/// The digest of the body in a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Payload {
    /// The request says it.
    Given(String),
    /// The signature is over the body itself.
    OfBody,
}

/// A real key, and the way to sign a request with it.
#[derive(Clone, Debug)]
pub(crate) struct Resign {
    signature: Signature,
    form: Form,
    body: String,
    key: SecretString,
    /// Position of the key among those that were tried.
    index: usize,
}

/// Result of reading a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The request is not signed.
    Unsigned,
    Signed(Box<Signature>),
    /// The request has a signature that cannot be made anew.
    Unusable(&'static str),
}

/// Reads the signature of a request.
pub(crate) fn read(head: &Parts) -> Reading {
    let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let read = match authorization {
        Some(text) if text.starts_with(ASYMMETRIC) => return Reading::Unusable("version 4A"),
        Some(text) if text.starts_with(ALGORITHM) => from_header(head, text),
        _ => {
            let query = head.uri.query().unwrap_or_default();
            match canonical::parameter(query, "X-Amz-Algorithm").as_deref() {
                Some(ALGORITHM) => from_query(query),
                Some(ASYMMETRIC) => return Reading::Unusable("version 4A"),
                _ => return Reading::Unsigned,
            }
        }
    };
    match read {
        None => Reading::Unusable("it is incomplete"),
        Some(Signature { payload: Payload::Given(given), .. }) if given.starts_with(STREAMING) => {
            Reading::Unusable("the body has signed chunks")
        }
        Some(signature) => Reading::Signed(Box::new(signature)),
    }
}

fn from_header(head: &Parts, text: &str) -> Option<Signature> {
    let fields = text.strip_prefix(ALGORITHM)?;
    let field = |name: &str| {
        let mut fields = fields.split(',').map(str::trim);
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let (key_id, scope) = field("Credential")?.split_once('/')?;
    let header = |name: &str| head.headers.get(name)?.to_str().ok();
    let payload = match header("x-amz-content-sha256") {
        Some(given) => Payload::Given(given.to_owned()),
        None => Payload::OfBody,
    };
    Some(Signature {
        carrier: Carrier::Header,
        key_id: key_id.to_owned(),
        scope: scope.to_owned(),
        date: header("x-amz-date")?.to_owned(),
        signed_headers: names(field("SignedHeaders")?),
        signature: field("Signature")?.to_owned(),
        payload,
    })
}

fn from_query(query: &str) -> Option<Signature> {
    let parameter = |name| canonical::parameter(query, name);
    let credential = parameter("X-Amz-Credential")?;
    let (key_id, scope) = credential.split_once('/')?;
    let is_s3 = is_s3(scope);
    Some(Signature {
        carrier: Carrier::Query,
        key_id: key_id.to_owned(),
        scope: scope.to_owned(),
        date: parameter("X-Amz-Date")?,
        signed_headers: names(&parameter("X-Amz-SignedHeaders")?),
        signature: parameter("X-Amz-Signature")?,
        payload: match parameter("X-Amz-Content-Sha256") {
            Some(given) => Payload::Given(given),
            None if is_s3 => Payload::Given(UNSIGNED.to_owned()),
            None => Payload::OfBody,
        },
    })
}

fn names(list: &str) -> Vec<String> {
    list.split(';').map(str::to_ascii_lowercase).collect()
}

impl Signature {
    /// Returns whether the signature is over the body itself, which must be read then.
    pub(crate) fn needs_body(&self) -> bool {
        self.payload == Payload::OfBody
    }

    /// Returns the id of the key.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Returns the signature that a key makes, with one of the forms of a path.
    pub(crate) fn made_with(
        &self,
        head: &Parts,
        form: usize,
        body: &[u8],
        key: &SecretString,
    ) -> Option<String> {
        let body = self.payload_of(body);
        sign(key, &self.scope, &self.text(head, *Form::ALL.get(form)?, &body)?)
    }

    /// Returns the text that stands for the body.
    fn payload_of(&self, body: &[u8]) -> String {
        match &self.payload {
            Payload::Given(given) => given.clone(),
            Payload::OfBody => hex(digest::digest(&digest::SHA256, body).as_ref()),
        }
    }

    /// Finds the placeholder that is the key of the signature. The result is `None` if none is.
    pub(crate) fn find_key(
        self,
        head: &Parts,
        body: &[u8],
        keys: &[(SecretString, SecretString)],
    ) -> Option<Resign> {
        let body = self.payload_of(body);
        // Services encode the path in different ways, and the signature tells which one is right.
        for form in Form::ALL {
            let Some(text) = self.text(head, form, &body) else { continue };
            for (index, (placeholder, key)) in keys.iter().enumerate() {
                if sign(placeholder, &self.scope, &text).as_deref() == Some(&self.signature) {
                    let key = key.clone();
                    return Some(Resign { form, body, key, index, signature: self });
                }
            }
        }
        None
    }

    /// Returns the text that is signed.
    fn text(&self, head: &Parts, form: Form, body: &str) -> Option<String> {
        let request = canonical::request(head, form, &self.signed_headers, body)?;
        let digest = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        Some(format!("{ALGORITHM}\n{}\n{}\n{digest}", self.date, self.scope))
    }
}

impl Resign {
    /// Returns the position of the key among those that were tried.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Returns whether the signature covers a header.
    pub(crate) fn covers(&self, name: &str) -> bool {
        self.signature.signed_headers.iter().any(|signed| signed.eq_ignore_ascii_case(name))
    }

    /// Returns whether the signature is for S3.
    pub(crate) fn is_for_s3(&self) -> bool {
        is_s3(&self.signature.scope)
    }

    /// Signs a request in its final form, in which placeholders are replaced.
    pub(crate) fn sign(&self, head: &mut Parts) -> Option<()> {
        let text = self.signature.text(head, self.form, &self.body)?;
        let signature = sign(&self.key, &self.signature.scope, &text)?;
        match self.signature.carrier {
            Carrier::Header => {
                let header = head.headers.get(AUTHORIZATION)?.to_str().ok()?;
                let (before, old) = header.rsplit_once("Signature=")?;
                let after = old.split_once(',').map_or("", |(_, after)| after);
                let comma = if after.is_empty() { "" } else { "," };
                let signed = format!("{before}Signature={signature}{comma}{after}");
                let mut signed = HeaderValue::try_from(signed).ok()?;
                signed.set_sensitive(true);
                head.headers.insert(AUTHORIZATION, signed);
            }
            Carrier::Query => {
                let query = query_without_signature(head.uri.query()?);
                let path = head.uri.path();
                let uri = format!("{path}?{query}&X-Amz-Signature={signature}");
                head.uri = uri.parse().ok()?;
            }
        }
        Some(())
    }
}

fn is_s3(scope: &str) -> bool {
    scope.split('/').nth(2) == Some("s3")
}

/// Signs a text with the key that is derived for a scope. The result is `None` for a scope of
/// another form.
fn sign(key: &SecretString, scope: &str, text: &str) -> Option<String> {
    let parts: Vec<&str> = scope.split('/').collect();
    if !matches!(parts[..], [_, _, _, "aws4_request"]) {
        return None;
    }
    let mut derived = Zeroizing::new(format!("AWS4{}", key.expose_secret()).into_bytes());
    for part in parts {
        derived = Zeroizing::new(mac(&derived, part.as_bytes()));
    }
    Some(hex(&mac(&derived, text.as_bytes())))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use hyper::Request;

    use super::*;

    const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const S3_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn authorization(scope: &str, headers: &str, signature: &str) -> String {
        format!("{ALGORITHM} Credential={scope}, SignedHeaders={headers}, Signature={signature}")
    }

    /// Checks that the given key made the signature, and that signing anew with it repeats it.
    #[track_caller]
    fn check(mut head: Parts, body: &[u8], key: &str) {
        let Reading::Signed(signature) = read(&head) else { panic!("{:?}", read(&head)) };
        let given = signature.signature.clone();
        let key = SecretString::from(key);
        let other = SecretString::from("other");
        let keys = [(other.clone(), other.clone()), (key.clone(), key.clone())];
        assert!(signature.clone().find_key(&head, body, &keys[..1]).is_none());
        let resign = signature.clone().find_key(&head, body, &keys).unwrap();
        resign.sign(&mut head).unwrap();
        let Reading::Signed(again) = read(&head) else { panic!("{:?}", read(&head)) };
        assert_eq!(again.signature, given);
        // Another key gives another signature, which that key then verifies.
        let resign = signature.find_key(&head, body, &[(key, other.clone())]).unwrap();
        resign.sign(&mut head).unwrap();
        let Reading::Signed(again) = read(&head) else { panic!("{:?}", read(&head)) };
        assert_ne!(again.signature, given);
        assert!(again.find_key(&head, body, &[(other.clone(), other)]).is_some());
    }

    #[test]
    fn the_test_suite_of_aws_is_repeated() {
        let scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
        for (method, uri, signature) in [
            ("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "GET",
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            ("POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ] {
            let authorization = authorization(scope, "host;x-amz-date", signature);
            let headers = [
                ("host", "example.amazonaws.com"),
                ("x-amz-date", "20150830T123600Z"),
                ("authorization", &authorization),
            ];
            check(head(method, uri, &headers), b"", KEY);
        }
    }

    #[test]
    fn the_examples_of_s3_are_repeated() {
        let scope = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let authorization = authorization(
            scope,
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        );
        let headers = [
            ("host", "examplebucket.s3.amazonaws.com"),
            ("range", "bytes=0-9"),
            ("x-amz-content-sha256", empty),
            ("x-amz-date", "20130524T000000Z"),
            ("authorization", &authorization),
        ];
        check(head("GET", "/test.txt", &headers), b"", S3_KEY);
        let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F\
             20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&\
             X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=\
             aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        let headers = [("host", "examplebucket.s3.amazonaws.com")];
        check(head("GET", &format!("/test.txt?{query}"), &headers), b"", S3_KEY);
    }

    #[test]
    fn other_signatures_are_refused_by_name() {
        let chunked = ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
        let date = ("x-amz-date", "20130524T000000Z");
        let signed = authorization("A/20130524/us-east-1/s3/aws4_request", "host", "00");
        let signed = ("authorization", &*signed);
        let reading = |headers: &[(&str, &str)]| read(&head("GET", "/", headers));
        assert_eq!(reading(&[]), Reading::Unsigned);
        let expected = Reading::Unusable("the body has signed chunks");
        assert_eq!(reading(&[signed, date, chunked]), expected);
        assert_eq!(reading(&[signed]), Reading::Unusable("it is incomplete"));
        let of_4a = ("authorization", "AWS4-ECDSA-P256-SHA256 Credential=A/b");
        assert_eq!(reading(&[of_4a]), Reading::Unusable("version 4A"));
    }
}
