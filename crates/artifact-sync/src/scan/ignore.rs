//! Rules for paths that are not mirrored.

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use sandbox_core::internal::is_staged_name;

use crate::paths::name;

/// Names of directories that programs can recreate, at any depth.
const DEFAULT_DIRECTORIES: [&str; 9] = [
    ".git",
    "node_modules",
    "__pycache__",
    "site-packages",
    "dist-packages",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
];

/// Paths that are ignored in both directions, as patterns in the syntax of `gitignore(5)` relative
/// to the directory.
///
/// As in git, a later pattern cannot re-include the content of an ignored directory: ignored
/// directories are never entered.
///
/// The default rules ignore, at any depth:
/// - directories called `.git`, `node_modules`, `__pycache__`, `site-packages`, `dist-packages`,
///   `.pytest_cache`, `.mypy_cache`, `.ruff_cache` or `.ipynb_checkpoints`;
/// - cache directories, which contain a valid [`CACHEDIR.TAG`](https://bford.info/cachedir/), with
///   the tag;
/// - virtual environments of Python, which contain a `pyvenv.cfg` that names a `home`;
/// - swap and lock files of editors: `.*.sw[a-p]`, `.~lock.*#`, `~$*`, `.#*` and `#*#`; and
///   `.DS_Store`.
///
/// A marker at the top of the session directory is an ordinary file. Backups of editors (`*~`) are
/// mirrored, because they may be the only copy of an earlier version.
#[derive(Clone, Debug)]
pub struct IgnoreRules {
    defaults: Defaults,
    /// The caller's patterns in order.
    lines: Vec<String>,
    /// The patterns, if all of them are plain names. Comparing names is cheaper than matching.
    names: Vec<String>,
    patterns: Gitignore,
    top_level: Vec<String>,
}

/// Use of the default rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defaults {
    Honoured,
    Replaced,
}

/// Rule that ignores an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A default name or a pattern.
    Pattern,
    /// The caller excluded this entry of the top directory.
    Excluded,
    /// A file has this name while it is being written, or since a crash.
    Staged,
}

/// Error for text that is not a pattern of `gitignore(5)`.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is not a gitignore pattern")]
pub struct PatternError {
    /// The rejected pattern.
    pub pattern: String,
    /// Explanation of the parser.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Classification of a [`PatternError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternErrorKind {
    /// The pattern has a syntax error.
    Syntax,
}

impl PatternError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> PatternErrorKind {
        PatternErrorKind::Syntax
    }

    /// Returns `false`: the same pattern fails again.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl Default for IgnoreRules {
    fn default() -> Self {
        Self { defaults: Defaults::Honoured, ..Self::none() }
    }
}

impl IgnoreRules {
    /// Creates rules from patterns in order, instead of the default rules. Empty patterns and
    /// comments are allowed, as in a `.gitignore` file.
    ///
    /// # Errors
    /// Returns [`PatternError`] for the first invalid pattern.
    pub fn from_patterns<P: AsRef<str>>(
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Self, PatternError> {
        Self::none().with_patterns(patterns)
    }

    /// Adds patterns, which take precedence over earlier ones and over the default rules.
    /// `!node_modules` mirrors what a default rule ignores.
    ///
    /// # Errors
    /// Returns [`PatternError`] for the first invalid pattern.
    pub fn with_patterns<P: AsRef<str>>(
        mut self,
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Self, PatternError> {
        self.lines.extend(patterns.into_iter().map(|pattern| pattern.as_ref().to_owned()));
        if self.lines.iter().all(|pattern| is_name(pattern)) {
            self.names.clone_from(&self.lines);
            return Ok(self);
        }
        self.names.clear();
        let mut builder = GitignoreBuilder::new("");
        let error = |pattern: &str, source: ignore::Error| PatternError {
            pattern: pattern.to_owned(),
            source: Box::new(source),
        };
        for pattern in &self.lines {
            builder.add_line(None, pattern).map_err(|source| error(pattern, source))?;
        }
        self.patterns = builder.build().map_err(|source| error("", source))?;
        Ok(self)
    }

    /// Returns a text that is equal for rules with the same patterns.
    pub fn identity(&self) -> String {
        format!("{:?}\n{}", self.defaults, self.lines.join("\n"))
    }

    /// Creates rules that ignore nothing.
    pub(crate) fn none() -> Self {
        Self {
            defaults: Defaults::Replaced,
            lines: Vec::new(),
            names: Vec::new(),
            patterns: Gitignore::empty(),
            top_level: Vec::new(),
        }
    }

    pub(crate) fn add_top_level(&mut self, name: String) {
        self.top_level.push(name);
    }

    /// Returns the rule that ignores an entry and everything below it. `path` is relative to the
    /// directory, and none of its parent directories is ignored.
    pub(crate) fn rule(&self, path: &str, is_directory: bool) -> Option<Rule> {
        let name = name(path);
        if is_staged_name(name) {
            return Some(Rule::Staged);
        }
        if self.top_level.iter().any(|ignored| ignored == path) {
            return Some(Rule::Excluded);
        }
        let is_ignored = self.names.iter().any(|ignored| ignored == name)
            || match self.patterns.matched(path, is_directory) {
                Match::Ignore(_) => true,
                Match::Whitelist(_) => false,
                Match::None => {
                    self.defaults == Defaults::Honoured && is_ignored_by_default(name, is_directory)
                }
            };
        is_ignored.then_some(Rule::Pattern)
    }

    /// Returns whether a rule ignores an entry, like [`IgnoreRules::rule`].
    pub(crate) fn covers_entry(&self, path: &str, is_directory: bool) -> bool {
        self.rule(path, is_directory).is_some()
    }

    /// Returns whether a marker in a directory makes the rules ignore it.
    pub(crate) fn honours_marker(&self, directory: &str) -> bool {
        self.defaults == Defaults::Honoured
            && !directory.is_empty()
            && !self.patterns.matched(directory, true).is_whitelist()
    }

    /// Returns whether a file or one of its parent directories is ignored, without markers. `path`
    /// is relative to the directory.
    pub(crate) fn covers(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        above.into_iter().any(|above| self.covers_entry(above, true))
            || self.covers_entry(path, false)
    }
}

fn is_ignored_by_default(name: &str, is_directory: bool) -> bool {
    if is_directory { DEFAULT_DIRECTORIES.contains(&name) } else { is_editor_file(name) }
}

/// Returns whether an editor or a file manager uses this name for a file of its own.
pub fn is_editor_file(name: &str) -> bool {
    match name.as_bytes() {
        // Swap files of Vim.
        [b'.', .., b'.', b's', b'w', b'a'..=b'p'] | [b'.', b's', b'w', b'a'..=b'p'] => true,
        // Locks and automatically saved files of Emacs.
        [b'.', b'#', _, ..] | [b'#', _, .., b'#'] => true,
        // Locks of LibreOffice and of Microsoft Office.
        [b'.', b'~', b'l', b'o', b'c', b'k', b'.', .., b'#'] | [b'~', b'$', _, ..] => true,
        name => name == b".DS_Store",
    }
}

/// Returns whether a pattern matches entries of this name and nothing else.
fn is_name(pattern: &str) -> bool {
    !pattern.is_empty()
        && pattern.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use sandbox_core::STAGED_PREFIX;

    use super::*;

    #[track_caller]
    fn check(rules: &IgnoreRules, ignored: &[&str], mirrored: &[&str]) {
        for path in ignored {
            assert!(rules.covers(path), "{path}");
        }
        for path in mirrored {
            assert!(!rules.covers(path), "{path}");
        }
    }

    #[test]
    fn default_names_match_directories_only_and_excluded_entries_at_the_top_only() {
        let mut rules = IgnoreRules::default();
        rules.add_top_level("skills".to_owned());
        check(
            &rules,
            &["node_modules/a", "a/.git/HEAD", "skills/x/SKILL.md", "a/__pycache__/x/y"],
            &[
                "a",
                "a/skills/b",
                "my_node_modules/a",
                ".gitignore",
                "environment/a",
                // Files, and directories without markers.
                ".git",
                "a/node_modules",
                "env",
                "venv/data.csv",
                "proj/env/notes.md",
                ".cache/x.json",
            ],
        );
    }

    #[test]
    fn files_of_editors_are_ignored_and_backups_are_not() {
        check(
            &IgnoreRules::default(),
            &[
                ".a.txt.swp",
                "d/.a.swa",
                ".swp",
                ".~lock.a.odt#",
                "~$a.docx",
                ".#a",
                "#a#",
                "d/.DS_Store",
            ],
            &[
                "a.swp", ".a.swz", ".a.swpx", "report~", "~lock", "#", "##", "#1", ".#", "~$",
                "DS_Store", ".a.swp/b",
            ],
        );
    }

    #[test]
    fn only_our_own_names_for_unfinished_files_are_ignored() {
        let staged = format!("a/{STAGED_PREFIX}{:032x}", 7);
        let probe = format!("{STAGED_PREFIX}probe-{:016x}", 7);
        let own = format!("{STAGED_PREFIX}notes.md");
        check(&IgnoreRules::from_patterns::<&str>([]).unwrap(), &[&staged, &probe], &[&own]);
    }

    #[test]
    fn added_patterns_extend_the_default_rules_and_can_revoke_them() {
        let extended = IgnoreRules::default().with_patterns(["*.tmp", "build"]).unwrap();
        check(&extended, &["a.tmp", "build/x", "node_modules/a", ".a.swp"], &["a.txt", "env/x"]);
        let revoked = extended.with_patterns(["!.git/", "!keep.tmp"]).unwrap();
        check(&revoked, &["a.tmp", "node_modules/a"], &[".git/HEAD", "keep.tmp"]);
        let more = IgnoreRules::default().with_patterns(["a"]).unwrap();
        check(&more.with_patterns(["b"]).unwrap(), &["a/x", "b", "node_modules/x"], &["c"]);
        let replaced = IgnoreRules::from_patterns(["a"]).unwrap();
        check(&replaced, &["a"], &["node_modules/x", ".x.swp"]);
        assert!(!replaced.honours_marker("target"));
        assert!(revoked.honours_marker("target") && !revoked.honours_marker(""));
        let revoked = revoked.with_patterns(["!/target/"]).unwrap();
        assert!(!revoked.honours_marker("target") && revoked.honours_marker("a/target"));
    }

    #[test]
    fn patterns_match_as_in_git() {
        let rules = IgnoreRules::from_patterns([
            "# a comment",
            "",
            "*.log",
            "!keep.log",
            "/build/",
            "docs/**/*.tmp",
            "a b",
        ])
        .unwrap();
        check(
            &rules,
            &["x.log", "d/x.log", "build/x", "docs/a/b/c.tmp", "a b", "d/a b/c", "build/keep.log"],
            &["keep.log", "d/keep.log", "d/build/x", "build", "docs.tmp", "node_modules/a"],
        );
        assert!(IgnoreRules::from_patterns(["a{b"]).is_err());
        assert!(!IgnoreRules::from_patterns::<&str>([]).unwrap().covers("node_modules/a"));
    }
}
