//! The tools of one session over the Model Context Protocol, on standard input and output.

mod transport;

use std::sync::Arc;

use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    JsonObject, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    ToolAnnotations,
};
use rmcp::service::{RequestContext, RoleServer, ServiceExt};
use serde_json::Value;

use crate::error_kind::ErrorKind;
use crate::session::Session;
use crate::sharing::SharingError;
use crate::tool_error::ToolError;
use crate::tools;

use transport::AnsweringTransport;

/// Serves a session until the client closes standard input.
///
/// `structuredContent` has the output of a tool as an object, and `content` has it as JSON text. A
/// failed call is a result with `isError`, so that the model can read the reason. If the client
/// cancels a call, its command is killed. A line that is no JSON gets the error -32700.
///
/// # Errors
/// Returns [`McpError`] if the client violates the protocol at the start, or the connection breaks.
pub async fn serve_stdio(session: Arc<Session>) -> Result<(), McpError> {
    let server = Server { session };
    let running = server
        .serve(AnsweringTransport::new(tokio::io::stdin(), tokio::io::stdout()))
        .await
        .map_err(|source| McpError::Handshake { source: Box::new(source) })?;
    running.waiting().await.map_err(|source| McpError::Connection { source: Box::new(source) })?;
    Ok(())
}

/// Errors returned by [`serve_stdio`].
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

#[derive(Debug)]
struct Server {
    session: Arc<Session>,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut config = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        config.server_info = Implementation::new("agent-tools", env!("CARGO_PKG_VERSION"));
        config.instructions = self.session.skills_prompt();
        config
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, rmcp::ErrorData> {
        Ok(ListToolsResult::with_all_items(
            self.session.tools().into_iter().map(to_mcp_tool).collect(),
        ))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, rmcp::ErrorData> {
        let input =
            request.arguments.map_or_else(|| Value::Object(JsonObject::new()), Value::Object);
        let result = tokio::select! {
            result = self.session.call(&request.name, input) => result,
            // Dropping the call kills its command. The client expects no answer.
            () = context.ct.cancelled() => {
                return Err(rmcp::ErrorData::internal_error("the call was cancelled", None));
            }
        };
        match result {
            Ok(output) => Ok(CallToolResult::structured(output).into()),
            Err(error @ ToolError::UnknownTool { .. }) => {
                Err(rmcp::ErrorData::invalid_params(error.to_string(), None))
            }
            Err(error) => {
                let mut message = error.message();
                let has_left = matches!(
                    error,
                    ToolError::Sharing {
                        source: SharingError::Closed { .. } | SharingError::Deleted { .. }
                    }
                );
                if has_left || error.kind() == ErrorKind::LeaseLost {
                    message += ", which needs a restart of the MCP server";
                }
                Ok(CallToolResult::error(vec![ContentBlock::text(message)]).into())
            }
        }
    }
}

fn to_mcp_tool(tool: tools::Tool) -> Tool {
    let schema = match tool.input_schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    };
    let annotations =
        ToolAnnotations::new().read_only(tool.is_read_only).open_world(tool.is_open_world);
    Tool::new(tool.name, tool.description, Arc::new(schema)).with_annotations(annotations)
}
