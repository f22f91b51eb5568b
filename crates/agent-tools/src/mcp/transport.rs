//! Lines of JSON as the transport of the server. The client waits for an answer to every request,
//! so one that cannot be handled gets an error.

use std::collections::HashSet;

use rmcp::model::{ClientNotification, ErrorData, JsonRpcMessage, RequestId};
use rmcp::service::{RoleServer, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, Empty};

use super::beginning::{Admission, judge, judge_later};

/// The maximum length of a message in bytes.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// The length of the ends of a longer message, in which its id is searched.
const END_BYTES: usize = 4096;

/// A transport of lines.
pub(super) struct LineTransport<R, W: AsyncWrite> {
    input: BufReader<R>,
    line: Line,
    /// True once the client has begun the connection.
    has_begun: bool,
    /// The ids of the requests that are not answered yet. The server tells requests apart by them.
    in_use: HashSet<RequestId>,
    output: AsyncRwTransport<RoleServer, Empty, W>,
}

/// A line that is being read, or the two ends of one that is too long.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// The beginning, if `bytes` has only the end.
    head: Option<Vec<u8>>,
}

/// The meaning of a line.
enum Received {
    Message(Box<RxJsonRpcMessage<RoleServer>>),
    /// A notification that this server does not know, or a blank line.
    Nothing,
    Invalid(Option<RequestId>, ErrorData),
}

impl<R, W> LineTransport<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    pub(super) fn new(input: R, output: W) -> Self {
        let output = AsyncRwTransport::new(tokio::io::empty(), output);
        let input = BufReader::with_capacity(64 * 1024, input);
        Self { input, line: Line::default(), has_begun: false, in_use: HashSet::new(), output }
    }

    /// Judges a message, and notes the id of a request until its answer.
    fn admit(&mut self, message: &RxJsonRpcMessage<RoleServer>) -> Admission {
        let admission = if self.has_begun { judge_later(message) } else { judge(message) };
        if matches!(admission, Admission::Denied(..) | Admission::Meaningless) {
            return admission;
        }
        if let JsonRpcMessage::Request(request) = message
            && !self.in_use.insert(request.id.clone())
        {
            let problem = "the id is in use by a request that is not answered yet";
            let error = ErrorData::invalid_request(problem, None);
            return Admission::Denied(request.id.clone(), error);
        }
        // A cancelled request has no answer.
        if let JsonRpcMessage::Notification(message) = message
            && let ClientNotification::CancelledNotification(cancelled) = &message.notification
            && let Some(id) = &cancelled.params.request_id
        {
            self.in_use.remove(id);
        }
        self.has_begun |= matches!(admission, Admission::Begins);
        admission
    }

    /// Reads up to the end of a line. Returns `None` at the end of the input.
    ///
    /// # Cancel safety
    /// The next call continues with the same line.
    async fn next_line(&mut self) -> Option<Line> {
        loop {
            let available = match self.input.fill_buf().await {
                Ok(available) => available,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!("cannot read standard input: {error}");
                    return None;
                }
            };
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            self.line.push(&available[..taken]);
            self.input.consume(taken);
            if taken == 0 && self.line.bytes.is_empty() {
                return None;
            }
            if end.is_some() || taken == 0 {
                return Some(std::mem::take(&mut self.line));
            }
        }
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let max = if self.head.is_some() { 2 * END_BYTES } else { MAX_MESSAGE_BYTES };
        if self.bytes.len() > max {
            let end = self.bytes.split_off(self.bytes.len() - END_BYTES);
            let rest = std::mem::replace(&mut self.bytes, end);
            self.head.get_or_insert_with(|| rest[..END_BYTES.min(rest.len())].to_vec());
        }
    }

    fn parse(&self) -> Received {
        if let Some(head) = &self.head {
            let size = MAX_MESSAGE_BYTES >> 20;
            let error =
                ErrorData::invalid_request(format!("the message is larger than {size} MiB"), None);
            return Received::Invalid(find_id(head, &self.bytes), error);
        }
        let text = self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.bytes).trim_ascii();
        if text.is_empty() {
            return Received::Nothing;
        }
        match serde_json::from_slice(text) {
            Ok(JsonRpcMessage::Notification(_)) if has_null_id(text) => {
                let problem = "the id of a request is a number or a text, not null";
                Received::Invalid(None, ErrorData::invalid_request(problem, None))
            }
            Ok(message) => Received::Message(Box::new(message)),
            Err(error) => explain(text, &error),
        }
    }
}

/// The parts of a message that tell if its sender waits for an answer. The other parts may have
/// anything, also escapes that are no characters.
#[derive(Deserialize)]
struct Envelope {
    /// `Some(Value::Null)` for `null`, which is no id.
    #[serde(default, deserialize_with = "present")]
    id: Option<Value>,
    #[serde(default)]
    method: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Returns whether a text that parses as a notification is a request with the id `null`.
fn has_null_id(text: &[u8]) -> bool {
    let envelope: Option<Envelope> = serde_json::from_slice(text).ok();
    envelope.is_some_and(|envelope| envelope.id == Some(Value::Null))
}

/// Explains a text that is no message.
fn explain(text: &[u8], error: &serde_json::Error) -> Received {
    let value: Option<Value> = serde_json::from_slice(text).ok();
    let envelope: Option<Envelope> = serde_json::from_slice(text).ok();
    let is_notification = |envelope: &Envelope| envelope.id.is_none() && envelope.method.is_some();
    if value.is_some() && envelope.as_ref().is_some_and(is_notification) {
        return Received::Nothing;
    }
    let id = match envelope {
        Some(envelope) => envelope.id.and_then(|id| serde_json::from_value(id).ok()),
        None => find_id(text, text),
    };
    let error = match value {
        Some(value) => match wrong_parameters(&value) {
            Some(problem) => ErrorData::invalid_params(problem, None),
            None => ErrorData::invalid_request(format!("the line is no request: {error}"), None),
        },
        None => ErrorData::parse_error(format!("the line is not JSON: {error}"), None),
    };
    Received::Invalid(id, error)
}

/// Returns the problem of a request whose parameters have a type that no request has.
fn wrong_parameters(request: &Value) -> Option<&'static str> {
    if request.get("jsonrpc")? != "2.0" || !request.get("method")?.is_string() {
        return None;
    }
    let params = request.get("params")?;
    if !params.is_object() {
        return Some("`params` must be an object");
    }
    let is_wrong = params.get("_meta").is_some_and(|meta| !meta.is_object());
    is_wrong.then_some("the parameter `_meta` must be an object")
}

/// Finds the id of a message that cannot be parsed, before its parameters or after them.
fn find_id(head: &[u8], end: &[u8]) -> Option<RequestId> {
    const KEY: &[u8] = b"\"id\":";
    let places = |text: &[u8]| text.windows(KEY.len()).position(|window| window == KEY);
    let end = end.trim_ascii();
    let after = end.strip_suffix(b"}").and_then(|end| {
        let at = end.windows(KEY.len()).rposition(|window| window == KEY)?;
        serde_json::from_slice(&end[at + KEY.len()..]).ok()
    });
    let before = || {
        let at = places(head)?;
        let is_outside = !head.get(1..at)?.contains(&b'{');
        let value = serde_json::Deserializer::from_slice(&head[at + KEY.len()..]);
        value.into_iter().next()?.ok().filter(|_| is_outside)
    };
    after.or_else(before)
}

impl<R, W> Transport<RoleServer> for LineTransport<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = std::io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answered = match &item {
            JsonRpcMessage::Response(answer) => Some(&answer.id),
            JsonRpcMessage::Error(answer) => answer.id.as_ref(),
            _ => None,
        };
        if let Some(id) = answered {
            self.in_use.remove(id);
        }
        self.output.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let (id, error) = match self.next_line().await?.parse() {
                Received::Message(message) => match self.admit(&message) {
                    Admission::Begins | Admission::Allowed => return Some(*message),
                    Admission::Meaningless => continue,
                    Admission::Denied(id, error) => (Some(id), error),
                },
                Received::Nothing => continue,
                Received::Invalid(id, error) => (id, error),
            };
            // This future may be dropped at any point, and an answer must be whole. The client may
            // have closed standard output.
            let answer = TxJsonRpcMessage::<RoleServer>::error(error, id);
            tokio::spawn(self.output.send(answer));
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.output.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8]) -> Vec<Line> {
        let mut transport = LineTransport::new(input, tokio::io::sink());
        transport.input = BufReader::with_capacity(7, input);
        let mut lines = Vec::new();
        while let Some(line) = transport.next_line().await {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn lines_arrive_in_any_pieces_and_the_last_may_lack_its_end() {
        let found = lines(b"{\"a\":1}\nnot json\n\r\n[1,\n2]").await;
        let texts: Vec<_> = found.iter().map(|line| line.bytes.as_slice()).collect();
        let expected: [&[u8]; 5] = [b"{\"a\":1}\n", b"not json\n", b"\r\n", b"[1,\n", b"2]"];
        assert_eq!(texts, expected);
    }

    #[track_caller]
    fn check(text: &str, code: i32, id: Option<RequestId>) {
        let line = Line { bytes: text.as_bytes().to_vec(), head: None };
        match line.parse() {
            Received::Invalid(found, error) => assert_eq!((error.code.0, found), (code, id)),
            Received::Message(_) => panic!("{text} is a message"),
            Received::Nothing => panic!("{text} is nothing"),
        }
    }

    #[test]
    fn a_message_that_cannot_be_handled_is_explained_with_its_id() {
        check("not json", -32700, None);
        check("{\"jsonrpc\":", -32700, None);
        check("\0", -32700, None);
        check(r#"{"jsonrpc":"2.0","id":4,"method":"ping""#, -32700, Some(RequestId::Number(4)));
        let surrogate = r#"{"params":{"a":"\ud800"},"jsonrpc":"2.0","id":7,"method":"tools/call"}"#;
        check(surrogate, -32700, Some(RequestId::Number(7)));
        check(r#"{"jsonrpc":"1.0","id":"x","method":"ping"}"#, -32600, {
            Some(RequestId::String("x".into()))
        });
        check("[1, 2]", -32600, None);
        check(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600, None);
        check(r#"{"jsonrpc":"2.0","id":null,"method":"x/y"}"#, -32600, None);
        check("5", -32600, None);
        for (params, expected) in [
            (r#"{"_meta":5}"#, "the parameter `_meta` must be an object"),
            ("[1]", "`params` must be an object"),
        ] {
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":8,"method":"tools/list","params":{params}}}"#);
            check(&text, -32602, Some(RequestId::Number(8)));
            let line = Line { bytes: text.into_bytes(), head: None };
            let Received::Invalid(_, error) = line.parse() else { panic!("it is valid") };
            assert_eq!(error.message, expected);
        }
        let unknown = Line { bytes: br#"{"jsonrpc":"1","method":"x"}"#.to_vec(), head: None };
        assert!(matches!(unknown.parse(), Received::Nothing));
        let blank = Line { bytes: b"\xef\xbb\xbf \r\n".to_vec(), head: None };
        assert!(matches!(blank.parse(), Received::Nothing));
    }

    #[test]
    fn a_message_that_is_too_large_is_answered_and_not_kept() {
        for (begin, end) in [
            (r#"{"jsonrpc":"2.0","id":9,"params":{"content":""#, r#""}}"#),
            (r#"{"method":"tools/call","params":{"id":3,"content":""#, r#""},"id":9}"#),
        ] {
            let mut line = Line::default();
            line.push(begin.as_bytes());
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..=64 {
                line.push(&piece);
            }
            line.push(end.as_bytes());
            line.push(b"\n");
            assert!(line.bytes.len() <= 2 << 20, "{}", line.bytes.len());
            let Received::Invalid(id, error) = line.parse() else { panic!("it is valid") };
            assert_eq!((error.code.0, id), (-32600, Some(RequestId::Number(9))));
            assert!(error.message.contains("larger than 64 MiB"), "{error:?}");
        }
        let hidden = br#"{"params":{"id":3,"content":"x"#;
        assert_eq!(find_id(hidden, hidden), None, "the id of a parameter");
    }
}
