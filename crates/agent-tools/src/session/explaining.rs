//! Explanations of what the policy of a session denies.

use std::path::{Path, PathBuf};

use policy::{Access, Remedy, Verdict};
use sandbox_core::Tier;

use super::local::LocalSession;
use crate::denials::{self, Denial, Judge, Reason};
use crate::hints::{self, Connections};
use crate::network::{Observed, explain_host, host_remedy};
use crate::printable::Printable;
use crate::redaction::Redaction;
use crate::remedies::remedy_option;
use crate::tool_error::ToolError;

/// The known facts about the failures of a command that has ended.
pub(crate) struct Failures<'c> {
    /// The end of standard error, or of the stream that a command has joined it to.
    pub(crate) stderr: &'c str,
    pub(crate) command: &'c str,
    /// The number of connections that had no route.
    pub(crate) unroutable: u32,
    pub(crate) connections: &'c Observed,
    /// The accesses that the engine has refused.
    pub(crate) denied: &'c [Denial],
}

/// The option that gives a session a network.
const ALLOW_HOST: &str = "use --allow-host HOST (network.allowedDomains in settings)";

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

    /// Returns the hint of a result, a line for each guess, without the values of variables.
    pub(crate) fn hint(&self, ran: &Failures<'_>, redaction: &mut Redaction<'_>) -> Option<String> {
        let is_known = |guess: &Denial| {
            ran.denied.iter().any(|it| (&it.target, it.access) == (&guess.target, guess.access))
        };
        let mut guesses = denials::find(ran.stderr, ran.command, self.dir(), self);
        guesses.retain(|guess| !is_known(guess));
        let has_connection = |denials: &[Denial]| denials.iter().any(|it| it.access == "connect");
        let is_explained = has_connection(&guesses) || has_connection(ran.denied);
        let connections = match () {
            () if self.network.is_open() || is_explained => Connections::Explained,
            () if ran.unroutable > 0 => Connections::Unroutable,
            () => Connections::Unexplained,
        };
        let mut lines: Vec<String> = guesses.iter().map(ToString::to_string).collect();
        lines.extend(ran.connections.notes());
        let no_network = || self.no_network(connections, ran.connections);
        lines.extend(hints::find(ran.stderr, &self.settings.tier, connections, no_network));
        let limits = &self.settings.limits;
        lines.extend(hints::exhausted(ran.stderr, limits));
        // Without a private one, /tmp has the room of the host.
        if self.sandbox().own_tmp().is_some() {
            lines.extend(hints::full(ran.stderr, ran.command, limits));
        }
        for line in &mut lines {
            redaction.apply(line);
            // A path may have a line feed.
            *line = Printable(&line).to_string();
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// Explains that the session has no network.
    fn no_network(&self, connections: Connections, observed: &Observed) -> String {
        let mut text = "the session has no network, so use what is installed".to_owned();
        let restrictions = self.settings.restrictions.as_ref();
        let change = match &self.settings.tier {
            Tier::Namespaces => restrictions
                .and_then(|file| file.change(&Remedy::AllowDomain("HOST".to_owned())))
                .or_else(|| Some(ALLOW_HOST.to_owned())),
            Tier::Landlock { .. } => self.change(&Remedy::UseNamespaces, |_| true),
        };
        if let Some(change) = change {
            text += &format!("; to allow a host, {change}");
        }
        if connections == Connections::Unroutable && observed.is_shared() {
            text += "; another command ran at the same time";
        }
        text
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
