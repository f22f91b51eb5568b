//! The subcommand `owners`: the machines that have sessions open.

use std::process::ExitCode;
use std::time::Duration;

use agent_tools::printable;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::outln;

pub(crate) async fn run(context: &Context) -> Result<ExitCode, Failure> {
    let owners = context.storage()?.owners().await.map_err(Failure::failed)?;
    context.print(&owners, || {
        for owner in &owners {
            let age = owner.last_modified.elapsed().unwrap_or_default();
            let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
            let url = owner.url.as_deref().map(printable);
            outln!("{:<32}  seen {age} ago  {}", printable(&owner.home), url.unwrap_or_default());
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
