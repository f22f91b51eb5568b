//! Sessions of requests that begin none.

use std::sync::Arc;

use agent_tools::Session;

use super::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::similar;

impl Context {
    /// Returns whether a session exists, here or in the store. A store that fails may have it.
    pub(crate) async fn has_session(&self, args: &SessionArgs) -> Result<bool, Failure> {
        let sessions = self.builder_of(args)?.build();
        Ok(sessions.exists(&args.session, &args.user).await.unwrap_or(true))
    }

    /// Opens a session that exists, here or in the store, for its files. Creates none.
    pub(crate) async fn open_existing(&self, args: &SessionArgs) -> Result<Arc<Session>, Failure> {
        // The opening explains a store that fails.
        if !self.has_session(args).await? {
            let (id, user, home) = (&args.session, &args.user, self.home()?);
            let question = similar::question(&home, id).map(|text| format!("; {text}"));
            return Err(Failure::not_run_text(format!(
                "user {user} has no session {id}, on this machine or in the store{}; \
                 `agent-tools session list` lists the sessions on this machine",
                question.unwrap_or_default()
            )));
        }
        self.open_for_files(args).await
    }
}
