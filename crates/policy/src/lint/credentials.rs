//! Credentials that srt accepts and does not protect.

use super::{Lint, LintCode};
use crate::config::{CredentialMode, CredentialsConfig, OnExtractNoMatch};
use crate::setting_path::SettingPath;

pub(super) fn lint(credentials: &CredentialsConfig) -> Vec<Lint> {
    let root = SettingPath::from("credentials");
    let files = credentials.files.iter().flatten().enumerate().map(|(at, file)| {
        let searched = file.extract.is_some() || file.decode.is_some();
        (root.key("files").index(at), file.mode, searched, file.on_extract_no_match)
    });
    let variables = credentials.env_vars.iter().flatten().enumerate().map(|(at, variable)| {
        let searched = variable.extract.is_some() || variable.decode.is_some();
        (root.key("envVars").index(at), variable.mode, searched, variable.on_extract_no_match)
    });
    let mut lints = Vec::new();
    for (path, mode, searched, no_match) in files.chain(variables) {
        let is_open = matches!(no_match, None | Some(OnExtractNoMatch::Warn));
        match mode {
            CredentialMode::Mask if searched && is_open => lints.push(Lint::new(
                LintCode::FailsOpen,
                path,
                "srt leaves the credential readable if it finds nothing to mask",
                "set onExtractNoMatch to \"deny\" or \"error\"",
            )),
            CredentialMode::Deny if searched => lints.push(Lint::new(
                LintCode::Inert,
                path,
                "extract and decode have an effect with mode \"mask\" only",
                "leave them out, or mask the credential",
            )),
            _ => {}
        }
    }
    lints
}
