//! The subcommand `owners`: the machines that have sessions open.

use std::process::ExitCode;
use std::time::Duration;

use agent_tools::printable;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};

pub(crate) async fn run(context: &Context) -> Result<ExitCode, Failure> {
    let owners = context.storage()?.owners().await.map_err(Failure::failed)?;
    context.print(&owners, || {
        if owners.is_empty() {
            errln!("no machine has a session of this store open");
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
