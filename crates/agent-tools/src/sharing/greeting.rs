//! The first exchange of a connection: the hello of a client, and the welcome of the server.

use std::path::PathBuf;

use artifact_sync::ChangeSourceReport;
use sandbox_core::{EngineReport, UserId};
use serde::{Deserialize, Serialize};
use skill_store::InstalledSkill;

use super::fingerprint::{Fingerprint, Settings};
use super::token::Token;
use super::wire::ReportText;
use crate::session::LocalSession;

/// The method of the first frame of a connection.
pub(super) const HELLO: u16 = 1;

/// The part of a session that a client wants to use.
#[derive(Clone, Copy)]
pub(crate) enum Wish<'w> {
    /// Its files.
    Files,
    /// All of it, with these settings.
    Session(Settings<'w>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hello {
    /// The proof of the token, in hexadecimal digits.
    pub(super) proof: String,
    /// The settings of the client; absent if it only uses the files.
    pub(super) settings: Option<Fingerprint>,
}

impl Hello {
    pub(super) fn new(token: &Token, wish: &Wish<'_>) -> Self {
        let settings = match wish {
            Wish::Files => None,
            Wish::Session(settings) => Some(Fingerprint::new(token, settings)),
        };
        Self { proof: token.proof().to_hex().to_string(), settings }
    }

    /// Returns whether the client has read the token.
    pub(super) fn proves(&self, token: &Token) -> bool {
        // The comparison of hashes takes constant time.
        blake3::Hash::from_hex(&self.proof).is_ok_and(|proof| proof == token.proof())
    }
}

/// Facts about the session that a client needs at once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Welcome {
    dir: PathBuf,
    user: Option<String>,
    skills: Vec<InstalledSkill>,
    warnings: Vec<String>,
    report: ReportText,
    change_source: Option<ChangeSourceReport>,
}

/// The facts from opening a session.
#[derive(Clone, Debug)]
pub(crate) struct SessionFacts {
    pub(crate) dir: PathBuf,
    pub(crate) user: Option<UserId>,
    pub(crate) skills: Vec<InstalledSkill>,
    pub(crate) warnings: Vec<String>,
    pub(crate) report: EngineReport,
    pub(crate) change_source: Option<ChangeSourceReport>,
}

impl SessionFacts {
    pub(crate) fn of(session: &LocalSession) -> Self {
        Self {
            dir: session.dir().to_owned(),
            user: session.workspace.user.clone(),
            skills: session.skills.installed(),
            warnings: session.warnings.clone(),
            report: session.report(),
            change_source: session.workspace.change_source(),
        }
    }
}

impl From<SessionFacts> for Welcome {
    fn from(facts: SessionFacts) -> Self {
        let SessionFacts { dir, user, skills, warnings, report, change_source } = facts;
        let user = user.map(|user| user.to_string());
        Self { dir, user, skills, warnings, report: (&report).into(), change_source }
    }
}

impl From<Welcome> for SessionFacts {
    fn from(welcome: Welcome) -> Self {
        let Welcome { dir, user, skills, warnings, report, change_source } = welcome;
        let user = user.and_then(|user| UserId::parse(&user).ok());
        Self { dir, user, skills, warnings, report: report.into(), change_source }
    }
}
