//! The network of an open session: its rules, which can change, and the record of its connections.

use sandbox_core::internal::lock;

use super::{Link, Session};
use crate::network::{NetworkError, NetworkEvent, NetworkRules, NetworkSpec, read_journal};
use crate::sessions::SessionError;
use crate::sharing::SetNetwork;
use crate::tool_error::ToolError;

impl Session {
    /// Replaces the hosts that the request of the session added to its settings. Connections that
    /// are no longer allowed are cut. Answers of a user stay.
    ///
    /// # Errors
    /// Returns [`ToolError::Network`] if the rules are invalid, if the sandbox can have no network,
    /// or if another process serves the session and this one has a user to ask; then nothing is
    /// changed, except that a sandbox without a network keeps the new rules.
    pub async fn set_network(&self, network: NetworkSpec) -> Result<(), ToolError> {
        let mut spec = lock(&self.spec).clone();
        spec.network = Some(network);
        let rules = match self.opener.network(&spec) {
            Ok(rules) => rules,
            Err(SessionError::Policy { source: policy::PolicyError::Invalid { source } }) => {
                return Err(ToolError::Network { source: NetworkError::Rules { source } });
            }
            Err(error) => return Err(self.cannot_reopen(error).into()),
        };
        let ask = spec.network.as_ref().and_then(|network| network.ask.clone());
        self.run(SetNetwork { rules: rules.clone(), ask }).await?;
        lock(&self.spec).network = spec.network;
        *lock(&self.network) = rules;
        Ok(())
    }

    /// Replaces the hosts, if the request names others than the last one.
    pub(crate) async fn follow_network(&self, network: NetworkSpec) -> Result<(), SessionError> {
        let mut spec = lock(&self.spec).clone();
        spec.network = Some(network);
        let has_user = spec.network.as_ref().is_some_and(|network| network.ask.is_some());
        if !has_user && self.opener.network(&spec)? == *lock(&self.network) {
            return Ok(());
        }
        match self.set_network(spec.network.unwrap_or_default()).await {
            Ok(()) => Ok(()),
            Err(ToolError::Network { source }) => Err(SessionError::Network { source }),
            Err(ToolError::Sharing { source }) => Err(source.into()),
            Err(_) => Err(SessionError::Network { source: NetworkError::AskedElsewhere }),
        }
    }

    /// Returns the records of connections, oldest first: the last 1,024, or the last 1 to 2 MiB of
    /// the session's files if another process serves it. An allowed connection is recorded when it
    /// is closed.
    pub fn network_events(&self) -> Vec<NetworkEvent> {
        match self.link() {
            Link::Serving(session) => session.network.events(),
            _ => read_journal(&self.opener.settings.home.state_dir(&self.id)).unwrap_or_default(),
        }
    }

    /// Returns the rules for the network, as this handle saw them last.
    pub(crate) fn network_rules(&self) -> NetworkRules {
        lock(&self.network).clone()
    }
}
