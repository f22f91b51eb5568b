//! What is not mirrored.

use sandbox_core::STAGED_PREFIX;

/// Names of directories that programs make again by themselves.
const REFERENCE: [&str; 12] = [
    "venv",
    ".venv",
    "env",
    "node_modules",
    "__pycache__",
    "site-packages",
    "dist-packages",
    ".cache",
    ".git",
    ".pytest_cache",
    ".mypy_cache",
    ".ipynb_checkpoints",
];

/// Which paths are left alone, in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoreRules {
    names: Vec<String>,
    top_level: Vec<String>,
}

impl Default for IgnoreRules {
    /// Virtual environments, installed packages, caches, and `.git`, at any depth.
    fn default() -> Self {
        Self::names(REFERENCE)
    }
}

impl IgnoreRules {
    /// Leaves alone every path that has one of these names as a component.
    pub fn names<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self { names: names.into_iter().map(Into::into).collect(), top_level: Vec::new() }
    }

    pub(crate) fn add_top_level(&mut self, name: String) {
        self.top_level.push(name);
    }

    /// Whether an entry with this name, and all in it, is left alone; `at_top` when it stands in the directory itself.
    pub(crate) fn covers_entry(&self, name: &str, at_top: bool) -> bool {
        self.names.iter().any(|ignored| ignored == name)
            || at_top && self.top_level.iter().any(|ignored| ignored == name)
            || name.starts_with(STAGED_PREFIX)
    }

    /// Whether a path, relative to the directory, is left alone.
    pub(crate) fn covers(&self, path: &str) -> bool {
        path.split('/').enumerate().any(|(depth, name)| self.covers_entry(name, depth == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_at_any_depth_and_excluded_ones_at_the_top_only() {
        let mut rules = IgnoreRules::default();
        rules.add_top_level("skills".to_owned());
        for ignored in ["node_modules/a", "a/.git/HEAD", "venv", "skills/x/SKILL.md", "a/.agent-tools-staged-1"] {
            assert!(rules.covers(ignored), "{ignored}");
        }
        for mirrored in ["a", "a/skills/b", "my_node_modules/a", ".gitignore", "environment/a"] {
            assert!(!rules.covers(mirrored), "{mirrored}");
        }
    }
}
