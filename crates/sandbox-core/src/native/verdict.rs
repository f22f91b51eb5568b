//! Decisions about the files of this host: of a policy before a sandbox opens, and of an open one.

use std::path::{Component, Path, PathBuf};

use policy::{
    Access, Host, LaterFiles, MountOp, MountPlan, Policy, Remedy, Rule, Unenforced, Verdict,
};

use super::builder::{allow_list, later_files};
use super::engine::NativeSandbox;
use super::error::OpenError;
use super::permissions;
use super::plan;
use super::shell;
use super::support;
use super::tree::{HostTree, SessionDirectories, compile};
use crate::sandbox::Tier;

/// The directories of devices and processes, of which each session has its own.
const DEV: &str = "/dev";
const PROC: &str = "/proc";
/// Directories for temporary files of all users.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
/// Entries of it beside the stateless devices.
const OWN_DEVICES: [&str; 7] =
    ["/dev/fd", "/dev/ptmx", "/dev/pts", "/dev/shm", "/dev/stderr", "/dev/stdin", "/dev/stdout"];
/// Trees of the kernel that the Landlock tier closes.
pub(super) const CLOSED: [&str; 2] = ["/proc", "/dev"];

impl NativeSandbox {
    /// Checks that a sandbox with this policy opens on the files that exist now, as far as the
    /// policy decides that. Starts nothing. Returns the rules that it would not enforce.
    ///
    /// # Errors
    /// Returns the error that opening would return.
    pub fn check(policy: &Policy, tier: &Tier) -> Result<Vec<Unenforced>, OpenError> {
        let plan = compile_for(policy, tier)?;
        shell::check(policy, &plan, tier)?;
        Ok(plan.unenforced)
    }

    /// Decides about an absolute path for a sandbox with this policy that opens now. Symlinks of
    /// the host are followed.
    ///
    /// # Errors
    /// Returns the error that opening would return.
    pub fn explain_policy(
        policy: &Policy,
        tier: &Tier,
        path: &Path,
        access: Access,
    ) -> Result<Verdict, OpenError> {
        let plan = compile_for(policy, tier)?;
        let verdict = explain(policy, &plan, tier, path, access);
        let is_on_host = |own: &Path| path != own && path.symlink_metadata().is_ok();
        Ok(match &verdict.rule {
            Rule::Private { path: own } if path.starts_with(own) && is_on_host(own) => {
                match own.to_str() {
                    Some(DEV | PROC) => verdict,
                    _ => hidden_by(own, path, access),
                }
            }
            _ => verdict,
        })
    }

    /// Decides about a connection of a sandbox on this tier to a name or an address, in any
    /// spelling, before its network is opened. Until then, it reaches no host, whatever the policy
    /// says.
    pub fn explain_host(tier: &Tier, host: &str) -> Verdict {
        // Linux connects to the loopback for an unspecified address.
        let is_own = |host: Host| {
            host.is_loopback() || host.as_address().is_some_and(|address| address.is_unspecified())
        };
        if Host::parse(host).is_ok_and(is_own) && *tier == Tier::Namespaces {
            return Verdict::allowed(Rule::OwnLoopback);
        }
        Verdict::denied(Rule::NoNetwork, None)
    }

    /// Returns a protected path inside a canonical directory. Commands cannot move or remove the
    /// directory then.
    pub fn protected_inside(&self, dir: &Path) -> Option<PathBuf> {
        let plan = self.mounts().plan();
        let mut points = plan.ops.iter().filter_map(MountOp::path);
        let inside = |at: &&Path| *at != dir && at.starts_with(dir);
        let found = points.find(|at| inside(at) && !plan.permits(at, Access::Write));
        found.map(Path::to_owned)
    }

    /// Decides about an absolute path for the commands of this sandbox. Symlinks of the host are
    /// followed.
    pub fn explain(&self, path: &Path, access: Access) -> Verdict {
        let mounts = self.mounts();
        let (policy, plan) = (mounts.policy(), mounts.plan());
        explain_with(policy, &plan, mounts.has_namespaces(), path, access)
    }
}

/// Compiles a policy as the tier does when it opens.
fn compile_for(policy: &Policy, tier: &Tier) -> Result<MountPlan, OpenError> {
    match tier {
        Tier::Namespaces => {
            if let Some(what) = support::unsupported_by_native(policy) {
                return Err(OpenError::UnsupportedPolicy { what });
            }
            compile(policy, plan::session_directories(), LaterFiles::Covered)
        }
        Tier::Landlock { accepted } => {
            if let Some(what) = support::unsupported_by_landlock(policy) {
                return Err(OpenError::UnsupportedPolicy { what });
            }
            let mounts = compile(policy, SessionDirectories::default(), later_files(accepted))?;
            allow_list(&mounts, accepted)?;
            Ok(mounts)
        }
    }
}

/// Decides about a path under a plan of this tier.
pub(super) fn explain(
    policy: &Policy,
    plan: &MountPlan,
    tier: &Tier,
    path: &Path,
    access: Access,
) -> Verdict {
    explain_with(policy, plan, *tier == Tier::Namespaces, path, access)
}

fn explain_with(
    policy: &Policy,
    plan: &MountPlan,
    has_namespaces: bool,
    path: &Path,
    access: Access,
) -> Verdict {
    let verdict = explain_rules(policy, plan, has_namespaces, path, access);
    let is_own = matches!(verdict.rule, Rule::Private { .. });
    if verdict.allowed && !is_own && permissions::deny(path, access) {
        return Verdict::denied(Rule::HostPermissions, None);
    }
    let is_temporary = || TEMPORARY.iter().any(|dir| path.starts_with(dir));
    match verdict.remedy {
        // The tier has the /tmp of the host.
        Some(Remedy::AllowWrite(_) | Remedy::CreateAndAllowWrite(_))
            if !has_namespaces && is_temporary() =>
        {
            Verdict::denied(verdict.rule, Some(Remedy::UseTemporaryDirectory))
        }
        _ => verdict,
    }
}

fn explain_rules(
    policy: &Policy,
    plan: &MountPlan,
    has_namespaces: bool,
    path: &Path,
    access: Access,
) -> Verdict {
    if has_namespaces {
        let led = process_target(policy, path);
        let path = led.as_deref().unwrap_or(path);
        if is_own_tree(path) && path.components().any(|part| part == Component::ParentDir) {
            return Verdict::denied(Rule::Unresolved, None);
        }
        let own = explain_device(path, access).or_else(|| explain_process(path, access));
        if let Some(verdict) = own {
            return verdict;
        }
        return policy.explain_mounted(plan, &HostTree, path, access);
    }
    let path = resolved(path);
    if let Some(closed) = closed_above(&path, access) {
        let rule = Rule::Closed { path: closed.to_owned() };
        return Verdict::denied(rule, Some(Remedy::UseNamespaces));
    }
    let verdict = policy.explain_mounted(plan, &HostTree, &path, access);
    // Where the tier opens with such a rule, its caller has accepted that. Init denies creation.
    let is_denied = || path.symlink_metadata().is_err() && plan.creation_rules.denies(&path);
    match plan.opened_around(&path) {
        Some(dir) if !verdict.allowed && !is_denied() => {
            Verdict::allowed(Rule::InnerRule { path: dir.to_owned() })
        }
        _ => verdict,
    }
}

/// Denies access to a file of the host that a session's own directory replaces.
fn hidden_by(own: &Path, path: &Path, access: Access) -> Verdict {
    let open = match access {
        Access::Write => Remedy::AllowWrite,
        _ => Remedy::AllowRead,
    };
    let rule = Rule::Replaced { path: own.to_owned() };
    Verdict::denied(rule, Some(open(path.to_owned())))
}

/// Returns whether a session has a device of its own with this path.
pub(super) fn is_own_device(path: &Path) -> bool {
    plan::DEVICES.iter().any(|device| path == Path::new(device))
        || OWN_DEVICES.iter().any(|own| path.starts_with(own))
}

/// Returns whether a path begins in a tree of the kernel of which each session has its own.
fn is_own_tree(path: &Path) -> bool {
    [DEV, PROC].iter().any(|own| path.starts_with(own))
}

/// Decides about a path in the `/dev` of a session, whatever the policy says. The host's own has
/// other devices.
fn explain_device(path: &Path, access: Access) -> Option<Verdict> {
    let dev = Path::new(DEV);
    if !path.starts_with(dev) {
        return None;
    }
    // Nothing is created in these, and each of their entries is a file of the session.
    let is_fixed = || ["/dev/pts", "/dev/fd"].iter().any(|dir| path == Path::new(dir));
    let is_device = is_own_device(path);
    let rule = Rule::Private { path: dev.to_owned() };
    let is_read = access == Access::Read;
    Some(match (is_device && (is_read || !is_fixed())) || (path == dev && is_read) {
        true => Verdict::allowed(rule),
        false => Verdict::denied(rule, None),
    })
}

/// Returns the path in the session to which the `root` or the `cwd` of one of its processes leads
/// (`proc_pid_root(5)`). A command begins in the session's directory.
fn process_target(policy: &Policy, path: &Path) -> Option<PathBuf> {
    let mut path = path.to_owned();
    // Each round removes a link.
    loop {
        let mut names = path.strip_prefix(PROC).ok()?.iter().filter_map(|name| name.to_str());
        let process = names.next()?;
        let is_of_session = process != "1"
            && (process.parse::<u32>().is_ok() || matches!(process, "self" | "thread-self"));
        let link = names.next().filter(|_| is_of_session)?;
        let below: PathBuf = path.iter().skip(4).collect();
        path = match link {
            "root" => Path::new("/").join(below),
            "cwd" => policy.own_directory()?.join(below),
            _ => return None,
        };
        if !path.starts_with(PROC) {
            return Some(path);
        }
    }
}

/// Decides about a path in the `/proc` of a session, whatever the policy says. It is read-only,
/// except for the files that a process has open. Commands access nothing of init, the first
/// process.
fn explain_process(path: &Path, access: Access) -> Option<Verdict> {
    let below = path.strip_prefix(PROC).ok()?;
    let process = below.iter().next().and_then(|name| name.to_str()).unwrap_or_default();
    let is_number = process.parse::<u32>().is_ok();
    let is_of_process = is_number || matches!(process, "self" | "thread-self");
    let is_open_file = is_of_process && below.iter().nth(1).is_some_and(|name| name == "fd");
    let is_open_file = is_open_file && below.iter().count() == 3;
    let is_in_init = process == "1" && below.iter().count() > 1;
    let rule = Rule::Private { path: PROC.into() };
    Some(match is_in_init || (access == Access::Write && !is_open_file) {
        true => Verdict::denied(rule, None),
        false => Verdict::allowed(rule),
    })
}

/// Follows the symlinks of a path as far as it exists. Landlock decides about the destination: a
/// symlink in a hidden directory leads on, while nothing is mounted that would conceal it.
fn resolved(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match found {
        Some((above, canonical)) if above != path => {
            canonical.join(path.strip_prefix(above).unwrap_or(path))
        }
        Some((_, canonical)) => canonical,
        None => path.to_owned(),
    }
}

/// Returns the tree of the kernel in which the Landlock tier closes a path.
fn closed_above(path: &Path, access: Access) -> Option<&'static Path> {
    let is_fact = access == Access::Read && plan::FACTS.iter().any(|fact| path.starts_with(fact));
    let is_open = is_fact || plan::DEVICES.iter().any(|device| path == Path::new(device));
    CLOSED.map(Path::new).into_iter().find(|closed| path.starts_with(closed) && !is_open)
}
