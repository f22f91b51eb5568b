//! Lints: settings that srt or an engine accepts and does not enforce.

mod credentials;
mod inert;
mod srt;

use std::fmt;

use crate::policy::Policy;
use crate::setting_path::SettingPath;

/// A setting whose effect differs from what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lint {
    /// Kind of the difference.
    pub code: LintCode,
    /// Path of the setting, such as `filesystem.denyWrite[0]`.
    pub path: SettingPath,
    /// Description of the difference.
    pub problem: String,
    /// A change of the settings that removes the difference.
    pub remedy: String,
}

/// Kind of a lint. The name of a code never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LintCode {
    /// No session opens with the setting.
    Unsupported,
    /// The setting has no effect.
    NoEffect,
    /// The setting has an effect on another operating system only.
    OtherSystem,
    /// The setting is for a program that the engine does not use.
    UnusedProgram,
    /// The setting has no effect without another one, or because of another one.
    Inert,
    /// srt fails with two settings together.
    Conflict,
    /// The setting weakens the sandbox beyond what it says.
    Weakens,
    /// Another program decides instead of the settings.
    Delegated,
    /// The setting lets a command continue unprotected if it cannot be applied.
    FailsOpen,
    /// srt drops the pattern.
    DroppedPattern,
    /// srt does not enforce a pattern without a fixed beginning.
    UnrootedPattern,
    /// srt starts nothing with the entry.
    HidesHelper,
    /// The entry covers no host.
    MatchesNothing,
    /// srt compares the entry as it is spelled, which no request is.
    NotCanonical,
}

impl LintCode {
    /// Returns the name of the code, such as `no-effect`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsupported => "unsupported",
            Self::NoEffect => "no-effect",
            Self::OtherSystem => "other-system",
            Self::UnusedProgram => "unused-program",
            Self::Inert => "inert",
            Self::Conflict => "conflict",
            Self::Weakens => "weakens",
            Self::Delegated => "delegated",
            Self::FailsOpen => "fails-open",
            Self::DroppedPattern => "dropped-pattern",
            Self::UnrootedPattern => "unrooted-pattern",
            Self::HidesHelper => "hides-helper",
            Self::MatchesNothing => "matches-nothing",
            Self::NotCanonical => "not-canonical",
        }
    }
}

impl fmt::Display for LintCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Lint {
    /// Creates a lint, for example one of an engine.
    pub fn new(
        code: LintCode,
        path: impl Into<SettingPath>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { code, path: path.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// Creates a lint about a setting that has to be left out.
    pub fn unset(code: LintCode, path: impl Into<SettingPath>, problem: impl Into<String>) -> Self {
        Self::new(code, path, problem, "leave the key out")
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.path, self.problem, self.code)
    }
}

impl Policy {
    /// Returns the settings that srt accepts and does not enforce on Linux, in the order of the
    /// sections.
    pub fn lint(&self) -> Vec<Lint> {
        let mut lints = srt::network(&self.config().network);
        lints.extend(inert::network(&self.config().network));
        lints.extend(srt::filesystem(self));
        lints.extend(inert::filesystem(self));
        lints.extend(self.config().credentials.iter().flat_map(credentials::lint));
        lints.extend(srt::other(self.config()));
        lints
    }
}
