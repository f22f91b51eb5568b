//! The subcommand `owners`: the machines that have sessions open.

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use agent_tools::{OwnerReport, printable};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};

/// A home that has sessions open.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Owner<'o> {
    home: &'o str,
    url: Option<&'o str>,
    beat: &'o str,
    /// Seconds since 1970.
    last_modified: u64,
}

impl<'o> From<&'o OwnerReport> for Owner<'o> {
    fn from(report: &'o OwnerReport) -> Self {
        let OwnerReport { home, url, beat, last_modified, .. } = report;
        let last_modified = last_modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { home, url: url.as_deref(), beat, last_modified }
    }
}

pub(crate) async fn run(context: &Context) -> Result<ExitCode, Failure> {
    let storage = context.storage()?;
    let owners = storage.owners().await.map_err(Failure::failed)?;
    let is_shared = storage.reaches_beyond(&context.home()?);
    let shown: Vec<Owner<'_>> = owners.iter().map(Owner::from).collect();
    context.print(&shown, || {
        if owners.is_empty() && !is_shared {
            errln!(
                "agent-tools: only this home uses the store, so nothing announces open sessions; \
                 `agent-tools session list` shows those of this home"
            );
        } else if owners.is_empty() {
            errln!("agent-tools: no machine has a session of this store open");
        }
        for owner in &owners {
            let age = owner.last_modified.elapsed().unwrap_or_default();
            let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
            let url = owner.url.as_deref().map(printable);
            let line = format!("{:<32}  seen {age} ago  ", printable(&owner.home));
            outln!("{}", format!("{line}{}", url.unwrap_or_default()).trim_end());
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
