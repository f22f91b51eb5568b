//! The environment of a session's commands.

use sandbox_core::CommandSpec;

use super::LocalSession;
use crate::engine::Engine;
use crate::network::patience;

impl LocalSession {
    /// Returns a command with the session's environment.
    pub(crate) fn command_spec(&self, command: &str, sandbox: &dyn Engine) -> CommandSpec {
        let mut spec = CommandSpec::new(command);
        let environment = &self.variables.current().environment;
        spec.env = environment.in_sandbox(sandbox.temporary_dir(), sandbox.shell());
        let proxies = self.network.variables();
        spec.env.retain(|(name, _)| !proxies.iter().any(|(proxy, _)| proxy == name));
        spec.env.extend(proxies);
        // Those of the session take precedence.
        let certificates = self.network.certificates().into_iter();
        let is_new = |(name, _): &(_, _)| !spec.env.iter().any(|(own, _)| own == name);
        let certificates: Vec<_> = certificates.filter(is_new).collect();
        spec.env.extend(certificates);
        patience::add_to(&mut spec.env, self.network.is_open());
        spec
    }

    /// Loads the variables again if they may have changed, before a command begins.
    pub(crate) async fn follow_variables(&self) {
        self.variables.follow().await;
        if let Err(error) = self.network.set_masks(&self.variables.current().masks) {
            let (session, error) = (&self.workspace.id, sandbox_core::with_causes(&error));
            tracing::warn!(%session, error, "the masks of variables could not be changed");
        }
    }
}
