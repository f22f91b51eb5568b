//! Decisions of a policy about single paths and hosts, with reason and remedy.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::canonical::is_resolved;
use crate::compile::KERNEL_SETTINGS;
use crate::git;
use crate::mandatory;
use crate::policy::Policy;
use crate::reason::Rule;
use crate::remedy::Remedy;
use crate::rules::{Ancestry, PathRule, depth, is_inside};

/// Access to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Reading a file or listing a directory.
    Read,
    /// Creating, changing or removing a file.
    Write,
}

/// Decision of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// `true` if the policy allows the access.
    pub allowed: bool,
    /// The deciding rule.
    pub rule: Rule,
    /// Change of the settings that would allow the access, if there is one.
    pub remedy: Option<Remedy>,
}

impl Verdict {
    /// Returns the decision of an engine that allows an access for a reason of its own.
    pub fn allowed(rule: Rule) -> Self {
        Self { allowed: true, rule, remedy: None }
    }

    /// Returns the decision of an engine that denies an access for a reason of its own.
    pub fn denied(rule: Rule, remedy: Option<Remedy>) -> Self {
        Self { allowed: false, rule, remedy }
    }
}

impl Policy {
    /// Decides about an absolute path without symlinks. It does not access the file system.
    ///
    /// A path that is relative or empty, or that has a component `..`, is denied, whatever the
    /// rules say. It could lead out of a directory that a rule opens.
    ///
    /// A sealed path is never accessible, and a frozen one never writable, whatever the rules say.
    /// The most specific rule for reading wins; of two equally specific rules, the allowing one
    /// does. For writing, `denyWrite` and protected names take precedence over `allowWrite`. A
    /// hidden path is never writable.
    pub fn explain(&self, path: &Path, access: Access) -> Verdict {
        if !is_resolved(path) {
            return Verdict::denied(Rule::Unresolved, None);
        }
        let path = &*plain(path);
        if let Some(sealed) = self.sealed.iter().find(|sealed| sealed.covers(path)) {
            return Verdict::denied(Rule::Sealed { path: sealed.path.clone() }, None);
        }
        if let Some(frozen) = self.frozen.iter().find(|frozen| path.starts_with(frozen))
            && access == Access::Write
        {
            return Verdict::denied(Rule::Frozen { path: frozen.clone() }, None);
        }
        if self.has_no_file_rules() {
            return Verdict { allowed: true, rule: Rule::Disabled, remedy: None };
        }
        let private = self.private_directory(path);
        if let Some(private) = private.filter(|private| !self.is_opened_inside(private, path)) {
            let rule = Rule::Private { path: private.clone() };
            return Verdict { allowed: true, rule, remedy: None };
        }
        match access {
            Access::Read => self.explain_read(path),
            Access::Write => self.explain_write(path, private),
        }
    }

    /// Returns whether a session sees what the host has at an absolute path without symlinks.
    pub fn shows(&self, path: &Path) -> bool {
        let Verdict { allowed, rule, .. } = self.explain(path, Access::Read);
        allowed && !matches!(rule, Rule::Private { .. })
    }

    /// Returns the private directory that a session sees at or above `path`. A rule for this very
    /// directory opens that of the host.
    fn private_directory(&self, path: &Path) -> Option<&PathBuf> {
        let rules = || self.allow_read.iter().chain(&self.allow_write);
        let is_opened = |dir: &Path| rules().any(|rule| rule.is_match(dir));
        let above = self.private.iter().filter(|dir| path.starts_with(dir) && !is_opened(dir));
        above.max_by_key(|dir| depth(dir))
    }

    /// Returns whether a rule opens a path of the host between a private directory and `path`.
    fn is_opened_inside(&self, private: &Path, path: &Path) -> bool {
        let (mut rules, path) =
            (self.allow_read.iter().chain(&self.allow_write), Ancestry::new(path));
        rules.any(|rule| rule.root_covering(&path).is_some_and(|root| is_inside(root, private)))
    }

    fn explain_read(&self, path: &Path) -> Verdict {
        // As in srt, an entry `/` of `denyRead` does not hide the kernel's own trees.
        let is_kernel_tree = ["/proc", "/dev", "/sys"].iter().any(|own| path.starts_with(own))
            || path == Path::new("/");
        let denied = self.hiding(path).filter(|(at, _)| *at > 0 || !is_kernel_tree);
        let shown = [("allowRead", &self.allow_read), ("allowWrite", &self.allow_write)]
            .into_iter()
            .filter_map(|(list, rules)| {
                most_specific(rules, path).map(|(at, rule)| (at, list, rule))
            })
            .max_by_key(|(at, ..)| *at);
        match (denied, shown) {
            (None, _) => {
                Verdict { allowed: true, rule: Rule::Unlisted { list: "denyRead" }, remedy: None }
            }
            (Some((hidden_at, _)), Some((shown_at, list, rule))) if shown_at >= hidden_at => {
                Verdict { allowed: true, rule: listed(list, rule), remedy: None }
            }
            (Some((_, rule)), _) => {
                let remedy = Some(Remedy::AllowRead(path.to_owned()));
                Verdict { allowed: false, rule, remedy }
            }
        }
    }

    /// Returns the most specific rule that hides a path, and the depth from which another one shows
    /// it.
    fn hiding(&self, path: &Path) -> Option<(usize, Rule)> {
        let denied = most_specific(&self.deny_read, path);
        let denied = denied.map(|(at, rule)| (at, listed("denyRead", rule)));
        let sealed = self.sealed.iter().filter(|sealed| path.starts_with(&sealed.path));
        let sealed = sealed.map(|sealed| {
            let entry = sealed.path.display().to_string();
            (sealed.opens_from(), Rule::Listed { list: "denyRead", entry })
        });
        sealed.chain(denied).max_by_key(|(at, _)| *at)
    }

    fn explain_write(&self, path: &Path, private: Option<&PathBuf>) -> Verdict {
        if let Some((_, rule)) = most_specific(&self.deny_write, path) {
            let rule = listed("denyWrite", rule);
            return Verdict { allowed: false, remedy: rule.remedy(), rule };
        }
        let opened = most_specific(&self.allow_write, path)
            .filter(|(at, _)| private.is_none_or(|private| *at > depth(private)));
        let unlisted = |rule| {
            let remedy = Some(Remedy::AllowWrite(path.to_owned()));
            Verdict { allowed: false, rule, remedy }
        };
        let (root_at, root) = match opened {
            Some((0, root)) if path.starts_with(KERNEL_SETTINGS) => {
                let (entry, path) = (root.to_string(), KERNEL_SETTINGS.into());
                return unlisted(Rule::NotIncluded { list: "allowWrite", entry, path });
            }
            Some(opened) => opened,
            None => return unlisted(Rule::Unlisted { list: "allowWrite" }),
        };
        if let Some(name) = self.protected_name(path) {
            let rule = Rule::Mandatory { name };
            return Verdict { allowed: false, remedy: rule.remedy(), rule };
        }
        // An entry of `allowRead` inside a hidden path does not make the path writable again.
        if let Some((_, rule)) = self.hiding(path).filter(|(at, _)| *at > root_at) {
            let remedy = Some(Remedy::AllowWrite(path.to_owned()));
            return Verdict { allowed: false, rule, remedy };
        }
        Verdict { allowed: true, rule: listed("allowWrite", root), remedy: None }
    }

    /// Returns the protected name that covers a path in one of the writable directories.
    fn protected_name(&self, path: &Path) -> Option<String> {
        let roots = self.roots_above(path);
        let is_taken = |root: &Path| {
            let name = self.protected_match(root);
            // A `.git` with something below is a directory.
            name.filter(|name| name != git::GIT || root == path)
        };
        let open: Vec<&Path> =
            roots.iter().copied().filter(|root| is_taken(root).is_none()).collect();
        if open.is_empty() {
            return roots.into_iter().find_map(is_taken);
        }
        open.into_iter().filter(|root| self.has_protected_names(root, path)).find_map(|root| {
            let below = path.strip_prefix(root).ok()?;
            let inside = root.ends_with(git::GIT);
            let in_repository = inside.then(|| self.protected_name_in_repository(below)).flatten();
            let continued = || mandatory::continued(root).find(|rest| below.starts_with(rest));
            in_repository
                .or_else(|| continued().map(str::to_owned))
                .or_else(|| self.protected_name_below(below))
        })
    }

    /// Returns the paths at or above `path` that the compiler makes writable, the deepest first.
    fn roots_above<'p>(&self, path: &'p Path) -> Vec<&'p Path> {
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        let mut roots = Vec::new();
        let ancestry = Ancestry::new(path);
        let covering = |rule: &&PathRule| rule.root_covering(&ancestry).is_some();
        for rule in self.allow_write.iter().filter(covering) {
            for above in ancestors.iter().filter(|above| rule.is_match(above)) {
                roots.push(*above);
                // The compiler looks for further matches below one only if that matters.
                let goes_on = matches!(rule, PathRule::Glob(pattern) if pattern.has_deep_matches());
                if !goes_on || !self.has_rule_inside(above, rule) {
                    break;
                }
            }
        }
        roots.sort_by_key(|root| std::cmp::Reverse(depth(root)));
        roots
    }

    /// Returns whether names are protected at `path` if the directory `root` is writable.
    fn has_protected_names(&self, root: &Path, path: &Path) -> bool {
        let own = self.own_directory().filter(|own| path.starts_with(own));
        own.is_none_or(|own| is_inside(root, own))
    }

    /// Returns the protected name that covers `path`, which patterns of `allowWrite` match. A
    /// pattern such as `/w/*` matches `.bashrc` too, and opens no protected name. An entry for this
    /// very path does.
    pub(crate) fn protected_match(&self, path: &Path) -> Option<String> {
        let ancestry = Ancestry::new(path);
        let covering = self.allow_write.iter().filter_map(|rule| match rule {
            PathRule::Glob(pattern) => rule.root_covering(&ancestry).map(|_| pattern.base()),
            PathRule::Path(_) => None,
        });
        let bases: Vec<_> = covering.collect();
        let is_named = |rule: &PathRule| matches!(rule, PathRule::Path(named) if named == path);
        if bases.is_empty() || self.allow_write.iter().any(is_named) {
            return None;
        }
        let mut bases = bases.iter().filter(|base| self.has_protected_names(base, path));
        bases.find_map(|base| self.protected_name_below(path.strip_prefix(base).ok()?))
    }

    /// Returns the protected name that covers a path below a writable directory.
    fn protected_name_below(&self, below: &Path) -> Option<String> {
        let mut rest = below.components();
        while let Some(name) = rest.as_path().iter().next() {
            let at = rest.as_path();
            if name == mandatory::UNSEARCHED {
                return None;
            }
            if let Some(name) = mandatory::names().find(|name| at.starts_with(name)) {
                return Some(name.to_owned());
            }
            rest.next();
            if name == git::GIT {
                // Git reads the entry itself if it is a pointer, and a directory cannot be moved.
                let inside = rest.as_path();
                let is_entry = inside.as_os_str().is_empty();
                return is_entry
                    .then(|| git::GIT.to_owned())
                    .or_else(|| self.protected_name_in_repository(inside));
            }
        }
        None
    }

    /// Returns the protected name that covers a path in a git directory.
    fn protected_name_in_repository(&self, inside: &Path) -> Option<String> {
        let is_protected =
            |name: &git::GitName| name.role != git::Role::Config || !self.allows_git_config();
        let find = |at: &Path| {
            let mut names = git::PROTECTED.iter().filter(|name| is_protected(name));
            names.find(|name| at.starts_with(name.path)).map(|name| name.path)
        };
        if let Some(name) = find(inside) {
            return Some(format!(".git/{name}"));
        }
        let container = git::CONTAINERS.into_iter().find(|name| inside.starts_with(name))?;
        // The name of a submodule can contain slashes. The compiler finds its end in the file
        // system; without access to it, this match protects more paths.
        let mut rest = inside.components();
        while rest.next().is_some() {
            if let Some(name) = find(rest.as_path()) {
                return Some(format!(".git/{container}/…/{name}"));
            }
        }
        None
    }
}

/// Returns a path without components `.` and without slashes too many.
fn plain(path: &Path) -> Cow<'_, Path> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let has_empty = bytes.windows(2).any(|pair| pair == b"//")
        || bytes.windows(3).any(|three| three == b"/./")
        || bytes.ends_with(b"/.")
        || (bytes.len() > 1 && bytes.ends_with(b"/"));
    if has_empty { Cow::Owned(path.components().collect()) } else { Cow::Borrowed(path) }
}

/// Returns the rule that covers `path` at the greatest depth, with this depth.
fn most_specific<'a>(rules: &'a [PathRule], path: &Path) -> Option<(usize, &'a PathRule)> {
    let path = Ancestry::new(path);
    rules
        .iter()
        .filter_map(|rule| Some((rule.depth_covering(&path)?, rule)))
        .max_by_key(|(at, _)| *at)
}

fn listed(list: &'static str, rule: &PathRule) -> Rule {
    Rule::Listed { list, entry: rule.to_string() }
}
