//! Decisions of a policy about the files of a host: through symlinks, and about the files to which
//! symlinks and git lead a rule.

use std::path::{Component, Path, PathBuf};

use crate::explain::{Access, Verdict};
use crate::plan::{MountOp, MountPlan};
use crate::policy::Policy;
use crate::reason::Rule;
use crate::remedy::Remedy;
use crate::rules::depth;
use crate::tree::{NodeKind, Tree};

/// Maximum number of symlinks on one path; the kernel has the same limit (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// A rule that reaches a path whose name does not show that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The canonical path, which need not exist.
    pub(crate) target: PathBuf,
    pub(crate) decision: Decision,
    pub(crate) rule: Rule,
}

/// The effect of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    DeniesReading,
    DeniesWriting,
    AllowsReading,
    AllowsWriting,
}

impl Decision {
    /// Returns the effect of the rules in a list.
    pub(crate) fn of_list(list: &str) -> Self {
        match list {
            "denyRead" => Self::DeniesReading,
            "denyWrite" => Self::DeniesWriting,
            "allowRead" => Self::AllowsReading,
            _ => Self::AllowsWriting,
        }
    }

    /// Returns whether the effect can be the reason that an access is allowed or denied.
    fn explains(self, access: Access, is_allowed: bool) -> bool {
        match self {
            // A hidden path is not writable either, and a writable one is readable.
            Self::DeniesReading => !is_allowed,
            Self::DeniesWriting => !is_allowed && access == Access::Write,
            Self::AllowsReading => is_allowed && access == Access::Read,
            Self::AllowsWriting => is_allowed,
        }
    }
}

impl Policy {
    /// Decides about an absolute path as an engine does that has performed `plan`. Symlinks in
    /// `tree` are followed, also those that an entry of the policy goes through.
    ///
    /// Unlike [`Policy::explain`], it knows the files that the compiler has found, and follows
    /// `..`. A path that is relative or empty is denied.
    pub fn explain_mounted(
        &self,
        plan: &MountPlan,
        tree: &dyn Tree,
        path: &Path,
        access: Access,
    ) -> Verdict {
        if !path.is_absolute() {
            return Verdict::denied(Rule::Unresolved, None);
        }
        let at = destination(plan, tree, path);
        let named = self.explain(&at, access);
        let is_protected_later =
            matches!(named.rule, Rule::Mandatory { .. }) && matches!(tree.kind(&at), Ok(None));
        let allowed = plan.permits(&at, access) && !is_protected_later;
        // An entry that leads here through a symlink makes the place writable, but not this path.
        let is_unlisted = named.rule == Rule::Unlisted { list: "allowWrite" };
        let is_led_to = !allowed && is_unlisted && plan.leads_to(&at, Decision::AllowsWriting);
        let is_named = named.allowed == allowed && !is_led_to;
        let is_absent = || matches!(tree.kind(&at), Ok(None));
        if is_named || matches!(named.rule, Rule::Private { .. }) {
            return match named.remedy {
                // An entry opens what exists.
                Some(Remedy::AllowWrite(_)) if is_absent() => {
                    Verdict { remedy: Some(Remedy::CreateAndAllowWrite(at)), ..named }
                }
                _ => named,
            };
        }
        let origin = plan
            .origins
            .iter()
            .filter(|origin| at.starts_with(&origin.target))
            .filter(|origin| origin.decision.explains(access, allowed))
            .max_by_key(|origin| depth(&origin.target));
        if let (None, Rule::Listed { list, entry }) = (origin, &named.rule)
            && named.allowed
            && is_absent()
        {
            let rule = Rule::NotYet { list, entry: entry.clone() };
            return Verdict::denied(rule, Some(Remedy::CreateAndAllowWrite(at)));
        }
        if let (None, Rule::Listed { list: "denyRead", entry }) = (origin, &named.rule)
            && allowed
            && is_absent()
            && !plan.creation_rules.denies(&at)
        {
            return Verdict::allowed(Rule::NotYetHidden { entry: entry.clone() });
        }
        let rule = origin.map_or_else(|| rule_of_mount(plan, &at, access), |o| o.rule.clone());
        let remedy = origin.filter(|_| !allowed).and_then(|origin| match &origin.decision {
            Decision::DeniesReading => Some(Remedy::AllowRead(at.clone())),
            _ => origin.rule.remedy(),
        });
        Verdict { allowed, rule, remedy }
    }
}

impl MountPlan {
    /// Returns whether a rule with this effect reaches a canonical path through symlinks.
    fn leads_to(&self, path: &Path, decision: Decision) -> bool {
        let mut origins = self.origins.iter().filter(|origin| origin.decision == decision);
        origins.any(|origin| path.starts_with(&origin.target))
    }

    /// Returns whether the session sees what the host has at a canonical path.
    fn shows(&self, path: &Path) -> bool {
        let points = |op: &&MountOp| op.path().is_some_and(|at| path.starts_with(at));
        let is_private = |op: &MountOp| matches!(op, MountOp::Private { .. });
        let deciding = self.ops.iter().rev().find(points);
        self.allows(path, Access::Read) && !deciding.is_some_and(is_private)
    }

    /// Returns whether the mounts and the creation rules allow `access` to a canonical path. A path
    /// that is relative or empty, or that has a component `..`, is denied.
    pub fn permits(&self, path: &Path, access: Access) -> bool {
        self.allows(path, access) && (access == Access::Read || !self.creation_rules.denies(path))
    }
}

/// Returns the rule of the mount that decides about a path.
fn rule_of_mount(plan: &MountPlan, path: &Path, access: Access) -> Rule {
    let point = plan.ops.iter().rev().filter_map(MountOp::path).find(|at| path.starts_with(at));
    let entry = point.unwrap_or(Path::new("/")).display().to_string();
    match (plan.permits(path, access), access) {
        (true, Access::Read) => Rule::Unlisted { list: "denyRead" },
        (true, Access::Write) => Rule::Listed { list: "allowWrite", entry },
        (false, Access::Read) => Rule::Listed { list: "denyRead", entry },
        // Only the creation of the path is denied.
        (false, Access::Write) if plan.allows(path, access) => {
            Rule::Mandatory { name: path.display().to_string() }
        }
        (false, Access::Write) => Rule::Mandatory { name: entry },
    }
}

/// Returns the path at which an access through `path` arrives. The missing part stays as it is, and
/// so does the part behind a symlink that the session does not see.
fn destination(plan: &MountPlan, tree: &dyn Tree, path: &Path) -> PathBuf {
    let mut at = PathBuf::from("/");
    let mut rest = reversed(path);
    let mut links = 0;
    while let Some(component) = rest.pop() {
        match component.components().next() {
            Some(Component::ParentDir) => {
                at.pop();
                continue;
            }
            Some(Component::Normal(name)) => at.push(name),
            _ => continue,
        }
        if let Ok(Some(NodeKind::Symlink)) = tree.kind(&at)
            && links < MAX_LINKS
            && plan.shows(&at)
            && let Ok(target) = tree.read_link(&at)
        {
            links += 1;
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(reversed(&target));
        }
    }
    at
}

fn reversed(path: &Path) -> Vec<PathBuf> {
    path.iter().rev().map(PathBuf::from).collect()
}
