//! The beginning of a connection: the client first sends `initialize`, or a request that carries
//! its own version of the protocol.

use rmcp::model::{ClientRequest, ErrorData, GetMeta, JsonRpcMessage, ProtocolVersion, RequestId};
use rmcp::service::{RoleServer, RxJsonRpcMessage};
use serde_json::Value;

/// The treatment of a message.
#[derive(Debug)]
pub(super) enum Admission {
    /// It begins the connection.
    Begins,
    /// The server handles it.
    Allowed,
    /// It needs no answer, and has no meaning yet.
    Meaningless,
    Denied(RequestId, ErrorData),
}

/// Judges a message that arrives before the connection has begun.
pub(super) fn judge(message: &RxJsonRpcMessage<RoleServer>) -> Admission {
    let JsonRpcMessage::Request(request) = message else { return Admission::Meaningless };
    match &request.request {
        ClientRequest::InitializeRequest(_) => Admission::Begins,
        ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => Admission::Allowed,
        // With wrong parameters, it is not parsed as the request of that name.
        ClientRequest::CustomRequest(custom) if custom.method == "initialize" => {
            let problem = missing_parameter(custom.params.as_ref());
            Admission::Denied(request.id.clone(), ErrorData::invalid_params(problem, None))
        }
        other => {
            let meta = other.get_meta();
            let is_complete = meta.missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty();
            if is_complete && meta.protocol_version().is_some() {
                return Admission::Begins;
            }
            let problem = "the first request is `initialize`, and no other one may come before it";
            Admission::Denied(request.id.clone(), ErrorData::invalid_request(problem, None))
        }
    }
}

/// Judges a message after the connection has begun.
pub(super) fn judge_later(message: &RxJsonRpcMessage<RoleServer>) -> Admission {
    let JsonRpcMessage::Request(request) = message else { return Admission::Allowed };
    let is_beginning = match &request.request {
        ClientRequest::InitializeRequest(_) => true,
        ClientRequest::CustomRequest(custom) => custom.method == "initialize",
        _ => false,
    };
    if !is_beginning {
        return Admission::Allowed;
    }
    let problem = "the connection has begun already; `initialize` comes once, as the first request";
    Admission::Denied(request.id.clone(), ErrorData::invalid_request(problem, None))
}

/// Names the first parameter of `initialize` that is missing or has a wrong type.
fn missing_parameter(params: Option<&Value>) -> String {
    let is_text = |path: &str| params.and_then(|it| it.pointer(path)).is_some_and(Value::is_string);
    let is_object = |key: &str| params.and_then(|it| it.get(key)).is_some_and(Value::is_object);
    let key = match () {
        () if !is_text("/protocolVersion") => "protocolVersion",
        () if !is_object("capabilities") => "capabilities",
        () if !is_object("clientInfo") => "clientInfo",
        () if !is_text("/clientInfo/name") => "clientInfo.name",
        () if !is_text("/clientInfo/version") => "clientInfo.version",
        () => return "a parameter of initialize is invalid".to_owned(),
    };
    format!("initialize needs the parameter `{key}`")
}

#[cfg(test)]
mod tests {
    use rmcp::model::ErrorCode;

    use super::*;

    #[track_caller]
    fn check(message: &str, is_expected: impl Fn(&Admission) -> bool) {
        let admission = judge(&serde_json::from_str(message).unwrap());
        assert!(is_expected(&admission), "{message}: {admission:?}");
    }

    #[test]
    fn only_initialize_or_a_request_with_a_version_begins_a_connection() {
        let hello = r#"{"protocolVersion":"2025-06-18","capabilities":{},
                        "clientInfo":{"name":"x","version":"1"}}"#;
        let initialize =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{hello}}}"#);
        check(&initialize, |admission| matches!(admission, Admission::Begins));
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        check(ping, |admission| matches!(admission, Admission::Allowed));
        let list = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
        check(list, |admission| matches!(admission, Admission::Denied(RequestId::Number(7), _)));
        let other = r#"{"jsonrpc":"2.0","id":8,"method":"x/y"}"#;
        check(other, |admission| matches!(admission, Admission::Denied(RequestId::Number(8), _)));
        for message in [
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        ] {
            check(message, |admission| matches!(admission, Admission::Meaningless));
        }
        let meta = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28",
                       "io.modelcontextprotocol/clientCapabilities":{}}"#;
        let list = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{{"_meta":{meta}}}}}"#
        );
        check(&list, |admission| matches!(admission, Admission::Begins));
    }

    #[test]
    fn an_initialize_without_a_parameter_is_denied_with_its_name() {
        for (params, expected) in [
            ("null", "needs the parameter `protocolVersion`"),
            ("{}", "needs the parameter `protocolVersion`"),
            (r#"{"protocolVersion":5}"#, "needs the parameter `protocolVersion`"),
            (r#"{"protocolVersion":"x","clientInfo":{}}"#, "needs the parameter `capabilities`"),
            (r#"{"protocolVersion":"x","capabilities":{}}"#, "needs the parameter `clientInfo`"),
            (
                r#"{"protocolVersion":"x","capabilities":{},"clientInfo":{"name":"x"}}"#,
                "needs the parameter `clientInfo.version`",
            ),
            (
                r#"{"protocolVersion":"x","capabilities":{"tools":5,"roots":5},
                    "clientInfo":{"name":"x","version":"1"}}"#,
                "a parameter of initialize is invalid",
            ),
        ] {
            let message =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#);
            check(&message, |admission| has_problem(admission, expected));
        }
        let bare = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;
        check(bare, |admission| has_problem(admission, "needs the parameter `protocolVersion`"));
    }

    fn has_problem(admission: &Admission, expected: &str) -> bool {
        let Admission::Denied(_, error) = admission else { return false };
        error.code == ErrorCode::INVALID_PARAMS && error.message.ends_with(expected)
    }
}
