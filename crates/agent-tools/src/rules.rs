//! The rules in which the reference system differs.

use skill_store::{Version, VersionSelector};

use crate::sessions::SessionSpec;

/// The rules of a session's names and results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rules {
    /// The rules of this library.
    #[default]
    Standard,
    /// The rules of the reference system, for callers that were written for it:
    ///
    /// - The links follow the line `[exulu-artifacts]`.
    /// - Long output is cut at its end and not kept.
    /// - The tools for files find `/tmp` in the session directory, like any other leading slash.
    /// - A skill without a version is version 1.
    ///
    /// If another process serves the session, its rules for output and `/tmp` apply.
    Reference,
}

impl Rules {
    /// The title of the block of links, if the rules have one of their own.
    pub(crate) fn artifact_label(self) -> Option<&'static str> {
        (self == Self::Reference).then_some("exulu-artifacts")
    }

    /// Applies the rules to a request.
    pub(crate) fn complete(self, spec: &mut SessionSpec) {
        if self == Self::Reference {
            for skill in &mut spec.skills {
                skill.version.get_or_insert(VersionSelector::Number(Version::FIRST));
            }
        }
    }
}
