//! The beginning of a connection: the client first sends `initialize`, or a request that carries
//! its own version of the protocol.

use rmcp::model::{ClientRequest, ErrorData, GetMeta, JsonRpcMessage, ProtocolVersion, RequestId};
use rmcp::service::{RoleServer, RxJsonRpcMessage};
use serde_json::Value;

/// The treatment of a message in front of the first one that begins the connection.
#[derive(Debug)]
pub(super) enum Early {
    /// It begins the connection.
    Begins,
    /// The server answers it at any time.
    Allowed,
    /// It needs no answer, and has no meaning yet.
    Meaningless,
    Denied(RequestId, ErrorData),
}

/// Judges a message that arrives before the connection has begun.
pub(super) fn judge(message: &RxJsonRpcMessage<RoleServer>) -> Early {
    let JsonRpcMessage::Request(request) = message else { return Early::Meaningless };
    match &request.request {
        ClientRequest::InitializeRequest(_) => Early::Begins,
        ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => Early::Allowed,
        // With wrong parameters, it is not parsed as the request of that name.
        ClientRequest::CustomRequest(custom) if custom.method == "initialize" => {
            let problem = missing_parameter(custom.params.as_ref());
            Early::Denied(request.id.clone(), ErrorData::invalid_params(problem, None))
        }
        other => {
            let meta = other.get_meta();
            let is_complete = meta.missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty();
            if is_complete && meta.protocol_version().is_some() {
                return Early::Begins;
            }
            let problem = "the first request is `initialize`, and no other one may come before it";
            Early::Denied(request.id.clone(), ErrorData::invalid_request(problem, None))
        }
    }
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
    fn check(message: &str, is_expected: impl Fn(&Early) -> bool) {
        let early = judge(&serde_json::from_str(message).unwrap());
        assert!(is_expected(&early), "{message}: {early:?}");
    }

    #[test]
    fn only_initialize_or_a_request_with_a_version_begins_a_connection() {
        let hello = r#"{"protocolVersion":"2025-06-18","capabilities":{},
                        "clientInfo":{"name":"x","version":"1"}}"#;
        let initialize =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{hello}}}"#);
        check(&initialize, |early| matches!(early, Early::Begins));
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        check(ping, |early| matches!(early, Early::Allowed));
        let list = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
        check(list, |early| matches!(early, Early::Denied(RequestId::Number(7), _)));
        let other = r#"{"jsonrpc":"2.0","id":8,"method":"x/y"}"#;
        check(other, |early| matches!(early, Early::Denied(RequestId::Number(8), _)));
        for message in [
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        ] {
            check(message, |early| matches!(early, Early::Meaningless));
        }
        let meta = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28",
                       "io.modelcontextprotocol/clientCapabilities":{}}"#;
        let list = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{{"_meta":{meta}}}}}"#
        );
        check(&list, |early| matches!(early, Early::Begins));
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
            check(&message, |early| has_problem(early, expected));
        }
        let bare = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;
        check(bare, |early| has_problem(early, "needs the parameter `protocolVersion`"));
    }

    fn has_problem(early: &Early, expected: &str) -> bool {
        let Early::Denied(_, error) = early else { return false };
        error.code == ErrorCode::INVALID_PARAMS && error.message.ends_with(expected)
    }
}
