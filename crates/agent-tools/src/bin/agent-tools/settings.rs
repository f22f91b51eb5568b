//! Files of sandbox-runtime settings.

use std::path::Path;

use agent_tools::policy::SandboxRuntimeConfig;

use crate::failure::Failure;

/// Reads settings from a file. An error names the file.
pub(crate) fn read(file: &Path) -> Result<SandboxRuntimeConfig, Failure> {
    let fail = |error: &(dyn std::error::Error + 'static)| {
        Failure::not_run_text(format!(
            "settings {}: {}",
            file.display(),
            agent_tools::with_causes(error)
        ))
    };
    let text = std::fs::read_to_string(file).map_err(|error| fail(&error))?;
    SandboxRuntimeConfig::from_json(&text).map_err(|error| fail(&error))
}
