//! Explanations of what the policy of a session denies.

use std::path::{Path, PathBuf};

use policy::{Access, Remedy, Verdict};

use super::local::LocalSession;
use crate::denials::{self, Denial, Judge, Reason};
use crate::hints::{self, Connections};
use crate::network::{explain_host, host_remedy};
use crate::remedies::remedy_option;
use crate::tool_error::ToolError;

impl LocalSession {
    /// Returns an error if the policy denies access to a path as the kernel sees it.
    pub(crate) fn check_access(&self, path: &Path, access: Access) -> Result<(), ToolError> {
        let operation = match access {
            Access::Read => "reading",
            _ => "writing",
        };
        match self.denial_reason(path, access) {
            None => Ok(()),
            Some(Reason { rule, .. }) => {
                Err(ToolError::Denied { operation, path: path.to_owned(), rule })
            }
        }
    }

    /// Returns the rule that denies access to a path, if there is one.
    pub(crate) fn denial_reason(&self, path: &Path, access: Access) -> Option<Reason> {
        let sandbox = self.sandbox();
        let Verdict { allowed, rule, remedy, .. } = sandbox.explain(path, access);
        let shows = |path: &Path| sandbox.allows(path, Access::Read);
        let remedy = || remedy.and_then(|remedy| self.change(&remedy, shows));
        (!allowed).then(|| Reason { rule: rule.to_string(), remedy: remedy() })
    }

    /// Renders the change that allows an access: of the file that restricts the session, or of the
    /// options.
    fn change(&self, remedy: &Remedy, shows: impl Fn(&Path) -> bool) -> Option<String> {
        match &self.settings.restrictions {
            Some(restrictions) => restrictions.remedy(remedy, shows),
            None => remedy_option(remedy, shows),
        }
    }

    /// Explains the failures on a command's standard error that the policy caused.
    pub(crate) fn explain_stderr(&self, stderr: &str, command: &str) -> Vec<Denial> {
        denials::find(stderr, command, self.dir(), self)
    }

    /// Returns a hint about a failure that no rule of the policy explains.
    pub(crate) fn hint(&self, stderr: &str, denied: &[Denial]) -> Option<String> {
        let is_connection = |denial: &Denial| denial.access == "connect";
        let connections = if self.network.is_open() || denied.iter().any(is_connection) {
            Connections::Explained
        } else {
            Connections::Unexplained
        };
        hints::find(stderr, &self.settings.tier, connections)
    }
}

impl Judge for LocalSession {
    fn path(&self, path: &Path, access: Access) -> Option<Reason> {
        self.denial_reason(path, access)
    }

    fn protected_inside(&self, dir: &Path) -> Option<PathBuf> {
        self.sandbox().protected_inside(dir)
    }

    fn host(&self, name: &str) -> Option<Reason> {
        // With a network, the gate knows better than a message.
        if self.network.is_open() {
            return None;
        }
        let Verdict { allowed, rule, remedy, .. } =
            explain_host(&self.policy, &self.settings.tier, name, None);
        let restrictions = self.settings.restrictions.as_ref();
        let remedy = || {
            let remedy = remedy?;
            let change = restrictions.and_then(|file| file.change(&remedy));
            change.or_else(|| host_remedy(&remedy, name))
        };
        (!allowed).then(|| Reason { rule: rule.to_string(), remedy: remedy() })
    }
}
