//! The tools of one session over the Model Context Protocol, on standard input and output.

mod beginning;
mod first_input;
mod progress;
mod skills;
mod transport;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CustomRequest,
    CustomResult, ErrorCode, GetPromptRequestParams, GetPromptResponse, GetSkillRequestParams,
    GetSkillResult, Implementation, InitializeRequestParams, InitializeResult, JsonObject,
    ListPromptsResult, ListResourcesResult, ListSkillsResult, ListToolsResult,
    PaginatedRequestParams, ProtocolVersion, ReadResourceDirectoryRequestParams,
    ReadResourceDirectoryResult, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{RequestContext, RoleServer, ServiceExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::error_kind::ErrorKind;
use crate::output::OutputTail;
use crate::printable::printable;
use crate::session::Session;
use crate::sharing::SharingError;
use crate::tool_error::ToolError;
use crate::tools::{self, CallOptions, Effects, ToolContent, ToolResult};

use first_input::FirstInput;
use transport::LineTransport;

/// Options of [`serve_stdio_with`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The maximum time limit of a command. `timeoutMs` may ask for less, and more is an error.
    pub max_timeout: Option<Duration>,
}

/// Serves an open session; see [`serve_stdio_with`].
///
/// # Errors
/// Like [`serve_stdio_with`].
pub async fn serve_stdio(session: Arc<Session>) -> Result<(), McpError> {
    serve_stdio_with(std::future::ready(Ok(session)), ServerOptions::default()).await
}

/// Serves a session until the client closes standard input.
///
/// The server polls `opening` once the client has sent something, and answers `initialize` while
/// `opening` opens the session. Other requests wait for it.
/// If it fails, they get its error text.
///
/// `content` has the output of a tool as plain text or an image, and `structuredContent` has it as
/// an object. A failed call is a result with `isError`, so that the model can read the reason. If
/// the client cancels a call, its command is killed. A client that gives a progress token gets the
/// last line of a command's output every 2 s. A line that is no request gets an error.
///
/// # Errors
/// Returns [`McpError`] if the client violates the protocol at the start, or the connection breaks.
pub async fn serve_stdio_with(
    opening: impl Future<Output = Result<Arc<Session>, String>> + Send + 'static,
    options: ServerOptions,
) -> Result<(), McpError> {
    let (sender, session) = watch::channel(None);
    let server = Server { session, options };
    let (input, begun) = FirstInput::new(tokio::io::stdin());
    let serving = async {
        let running = server
            .serve(LineTransport::new(input, tokio::io::stdout()))
            .await
            .map_err(|source| McpError::Handshake { source: Box::new(source) })?;
        let ended = running.waiting().await;
        ended.map_err(|source| McpError::Connection { source: Box::new(source) })?;
        Ok(())
    };
    let opening = async {
        if begun.await.is_ok() {
            let _ = sender.send(Some(opening.await.map_err(Arc::from)));
        }
        // Without its sender, the server would take the session for one that cannot be opened.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = serving => ended,
        () = opening => Ok(()),
    }
}

/// Errors returned by [`serve_stdio_with`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum McpError {
    /// The client did not begin with the handshake of the protocol.
    #[error("the client did not complete the handshake")]
    Handshake {
        /// The protocol error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke.
    #[error("the connection to the client broke")]
    Connection {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl McpError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Handshake { .. } | Self::Connection { .. } => ErrorKind::Client,
        }
    }

    /// Returns whether the same call may succeed later; always `false`, because standard input has
    /// ended.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// A session that is open, or the reason for which it cannot be opened; `None` while it is opened.
type OpeningState = Option<Result<Arc<Session>, Arc<str>>>;

#[derive(Debug)]
struct Server {
    session: watch::Receiver<OpeningState>,
    options: ServerOptions,
}

impl Server {
    /// Waits until the session is open.
    async fn session(&self) -> Result<Arc<Session>, rmcp::ErrorData> {
        let mut session = self.session.clone();
        let failed = |reason: &str| {
            let message = format!("the session cannot be opened: {reason}");
            rmcp::ErrorData::internal_error(message, None)
        };
        match session.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(session))) => Ok(Arc::clone(session)),
            Ok(Some(Err(reason))) => Err(failed(reason)),
            _ => Err(failed("the server ends")),
        }
    }

    /// Returns a text of the client, as an error may repeat it; `None` if values to redact are not
    /// known here.
    fn echo(&self, text: &str) -> Option<String> {
        match &*self.session.borrow() {
            Some(Ok(session)) => session.echo(text),
            _ => None,
        }
    }

    async fn call(
        &self,
        name: &str,
        input: Value,
        tail: OutputTail,
    ) -> Result<CallToolResponse, rmcp::ErrorData> {
        let mut options = CallOptions::default();
        (options.max_timeout, options.tail) = (self.options.max_timeout, Some(tail));
        match self.session().await?.call_with(name, input, options).await {
            Ok(result) => Ok(to_mcp_result(result).into()),
            Err(error @ ToolError::UnknownTool { .. }) => {
                Err(rmcp::ErrorData::invalid_params(error.to_string(), None))
            }
            Err(error) => Ok(to_mcp_error(&error).into()),
        }
    }
}

impl ServerHandler for Server {
    async fn initialize(
        &self,
        mut request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, rmcp::ErrorData> {
        context.peer.set_peer_info(request.clone());
        // The only version with batches, which this server does not read. Clients that have it have
        // the one before, too.
        if request.protocol_version == ProtocolVersion::V_2025_03_26 {
            request.protocol_version = ProtocolVersion::V_2024_11_05;
        }
        self.negotiate_initialize(&request)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        let known = ProtocolVersion::KNOWN_VERSIONS.iter().cloned();
        known.filter(|version| *version != ProtocolVersion::V_2025_03_26).collect()
    }

    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources();
        let capabilities = capabilities.enable_skills_with_directory_read().build();
        let mut config = ServerConfig::new(capabilities);
        config.server_info = Implementation::new("agent-tools", env!("CARGO_PKG_VERSION"));
        config.instructions = Some(INSTRUCTIONS.to_owned());
        config
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, rmcp::ErrorData> {
        let tools = self.session().await?.tools();
        Ok(ListToolsResult::with_all_items(tools.into_iter().map(to_mcp_tool).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, rmcp::ErrorData> {
        let input =
            request.arguments.map_or_else(|| Value::Object(JsonObject::new()), Value::Object);
        let tail = OutputTail::new();
        let call = self.call(&request.name, input, tail.clone());
        tokio::select! {
            result = call => result,
            // Dropping the call kills its command. The client expects no answer.
            () = context.ct.cancelled() => {
                Err(rmcp::ErrorData::internal_error("the call was cancelled", None))
            }
            never = progress::report(&context, &tail) => match never {},
        }
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, rmcp::ErrorData> {
        Ok(skills::list(&*self.session().await?).await)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, rmcp::ErrorData> {
        Ok(skills::read(&*self.session().await?, &request.uri).await?.into())
    }

    async fn list_skills(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListSkillsResult, rmcp::ErrorData> {
        let skills = skills::skills(&*self.session().await?).await;
        Ok(ListSkillsResult::with_all_items(skills))
    }

    async fn get_skill(
        &self,
        request: GetSkillRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetSkillResult, rmcp::ErrorData> {
        let skill = skills::skill(&*self.session().await?, &request.uri).await?;
        Ok(GetSkillResult::new(skill))
    }

    async fn read_resource_directory(
        &self,
        request: ReadResourceDirectoryRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceDirectoryResult, rmcp::ErrorData> {
        skills::read_directory(&*self.session().await?, &request.uri).await
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, rmcp::ErrorData> {
        Err(without_prompts())
    }

    async fn get_prompt(
        &self,
        _request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, rmcp::ErrorData> {
        Err(without_prompts())
    }

    /// Answers a request of an unknown method, or with parameters of another form.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, rmcp::ErrorData> {
        let CustomRequest { method, params, .. } = request;
        let params = params.unwrap_or_default();
        if matches!(&*method, "resources/read" | "resources/directory/read" | "skills/get") {
            let message = format!("{method} needs the text `uri` as a parameter");
            return Err(rmcp::ErrorData::invalid_params(message, None));
        }
        if method != "tools/call" {
            let method = self.echo(&method);
            let method =
                method.map_or_else(|| "that".to_owned(), |method| printable(&method).into());
            let message = format!("there is no method {method}, or it has other parameters");
            return Err(rmcp::ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None));
        }
        let problem = match (&params["name"], &params["arguments"]) {
            (Value::Null, _) => "needs the parameter `name`, which is missing",
            (name, _) if !name.is_string() => "needs a text as parameter `name`",
            (_, Value::Object(_) | Value::Null) => "has a parameter of another type",
            _ => "needs an object as parameter `arguments`",
        };
        Err(rmcp::ErrorData::invalid_params(format!("{method} {problem}"), None))
    }
}

fn without_prompts() -> rmcp::ErrorData {
    rmcp::ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "this server has no prompts", None)
}

/// The instructions, which few clients show to the model.
const INSTRUCTIONS: &str = "The tools work in one sandboxed session with files of its own. The \
                            descriptions of the tools state its rules and list its skills.";

fn to_mcp_result(result: ToolResult) -> CallToolResult {
    let ToolResult { mut object, content } = result;
    let content = match content {
        ToolContent::Text(text) => vec![ContentBlock::text(text)],
        ToolContent::Image { data, media_type, notes } => {
            // The content has the image.
            object["content"] = json!("");
            let notes = (!notes.is_empty()).then(|| ContentBlock::text(notes));
            [ContentBlock::image(data, media_type)].into_iter().chain(notes).collect()
        }
    };
    let mut result = CallToolResult::structured(Value::Null);
    (result.content, result.structured_content) = (content, Some(object));
    result
}

fn to_mcp_error(error: &ToolError) -> CallToolResult {
    let mut message = error.message();
    let has_left = matches!(
        error,
        ToolError::Sharing { source: SharingError::Closed { .. } | SharingError::Deleted { .. } }
    );
    if has_left || error.kind() == ErrorKind::LeaseLost {
        message += ", which needs a restart of the MCP server";
    }
    CallToolResult::error(vec![ContentBlock::text(message)])
}

fn to_mcp_tool(tool: tools::Tool) -> Tool {
    let annotations = ToolAnnotations::new()
        .read_only(tool.effects == Effects::None)
        .destructive(tool.effects != Effects::None)
        .idempotent(tool.effects != Effects::Any)
        .open_world(tool.is_open_world);
    Tool::new(tool.name, tool.description, object(tool.input_schema))
        .with_title(tool.title)
        .with_raw_output_schema(object(tool.output_schema))
        .with_annotations(annotations)
}

fn object(schema: Value) -> Arc<JsonObject> {
    match schema {
        Value::Object(schema) => Arc::new(schema),
        _ => Arc::default(),
    }
}
