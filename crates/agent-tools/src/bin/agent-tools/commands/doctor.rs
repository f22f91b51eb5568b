//! The subcommand `doctor`: sandbox layers, runtimes, store and variables of this machine, and
//! remedies.

mod limits;

use std::path::Path;
use std::process::ExitCode;

use agent_tools::secrets::sql::VariableSummary;
use agent_tools::{Enforcement, Tier, printable};
use egress::Trust;
use serde::Serialize;

use crate::config_file;
use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::output::outln;
use crate::schemes::{self, Scheme};

use limits::LimitLine;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    engine: &'static str,
    #[serde(skip)]
    is_open: bool,
    /// A weaker engine that works, if the requested one does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    weaker: Option<&'static str>,
    layers: Vec<Layer>,
    /// The way in which connections of a session with a network reach the gate.
    capture: String,
    /// The files in whose place the programs of such a session see the gate's certificates.
    trust: String,
    limits: Vec<LimitLine>,
    runtimes: Vec<Runtime>,
    node_path: Option<String>,
    home: Check,
    /// The configuration file, the options and the policy of the session.
    settings: Check,
    store: Check,
    variables: Check,
    schemes: Vec<SchemeCheck>,
    usable: bool,
}

#[derive(Serialize)]
struct Layer {
    name: &'static str,
    enforced: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Runtime {
    name: &'static str,
    path: String,
    /// The option that makes an unreachable runtime usable.
    #[serde(skip_serializing_if = "Option::is_none")]
    open_with: Option<String>,
    /// The variables that it needs besides, as `NAME=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    needs: Vec<String>,
}

#[derive(Serialize)]
struct Check {
    ok: bool,
    detail: String,
}

impl Check {
    fn failed(subject: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self { ok: false, detail: format!("{subject}: {}", agent_tools::with_causes(error)) }
    }
}

/// A URL scheme of stores or variables.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SchemeCheck {
    scheme: &'static str,
    built_in: bool,
    /// The way to get a scheme that this build lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl SchemeCheck {
    fn new(scheme: &Scheme) -> Self {
        Self { scheme: scheme.prefix, built_in: scheme.is_built_in, remedy: scheme.remedy() }
    }
}

pub(crate) async fn run(context: &Context, args: &SessionArgs) -> Result<ExitCode, Failure> {
    let report = examine(context, args).await.map_err(Failure::into_failed)?;
    context.print(&report, || show(&report))?;
    Ok(ExitCode::from(u8::from(!report.usable)))
}

async fn examine(context: &Context, args: &SessionArgs) -> Result<Report, Failure> {
    let engine = agent_tools::probe(&context.tier());
    let home = context.home()?;
    let (mut settings, runtimes, node_path) = match described(context, args) {
        Ok((runtimes, node_path)) => {
            (Check { ok: true, detail: "valid".to_owned() }, runtimes, node_path)
        }
        Err(failure) => {
            (Check { ok: false, detail: failure.message().into_owned() }, Vec::new(), None)
        }
    };
    if let Some(problem) = config_file::problem() {
        settings = Check { ok: false, detail: problem.to_owned() };
    }
    let store = store(context).await;
    let variables = match context.existing_variables().await {
        Ok(None) => Check { ok: true, detail: "0 stored".to_owned() },
        Ok(Some(variables)) => match variables.list().await {
            Ok(variables) => Check { ok: true, detail: described_variables(&variables) },
            Err(error) => Check { ok: false, detail: agent_tools::with_causes(&error) },
        },
        Err(failure) => Check { ok: false, detail: failure.message().into_owned() },
    };
    let landlock = Tier::Landlock { accepted: Vec::new() };
    let weaker = (!engine.is_usable()
        && context.tier() == Tier::Namespaces
        && agent_tools::probe(&landlock).is_usable())
    .then_some("`agent-tools --engine landlock doctor` shows what the weaker engine enforces here");
    let path = home.path().display().to_string();
    let home = match home.check_writable() {
        Ok(()) => Check { ok: true, detail: path },
        Err(error) => Check::failed(&path, &error),
    };
    let usable = engine.is_usable() && home.ok && settings.ok && store.ok && variables.ok;
    let layers = engine.layers().map(|(name, enforcement): (_, &Enforcement)| Layer {
        name,
        enforced: enforcement.to_string(),
    });
    Ok(Report {
        engine: engine.engine,
        is_open: engine.is_usable(),
        weaker,
        layers: layers.into(),
        capture: engine.capture.to_string(),
        trust: trust(&context.tier()),
        limits: limits::of_sessions(&context.tier()),
        runtimes,
        node_path,
        home,
        settings,
        store,
        variables,
        schemes: schemes::STORES.iter().chain(&schemes::VARIABLES).map(SchemeCheck::new).collect(),
        usable,
    })
}

/// Finds the runtimes of the session of these options, and the value of `NODE_PATH`.
fn described(
    context: &Context,
    args: &SessionArgs,
) -> Result<(Vec<Runtime>, Option<String>), Failure> {
    let sessions = context.described_sessions(args)?;
    let policy = sessions.policy(&context.spec(args)?).map_err(Failure::failed)?;
    let home = std::env::home_dir().unwrap_or_default();
    let mut runtimes: Vec<Runtime> = sessions
        .runtimes()
        .reachable(&policy)
        .into_iter()
        .map(|(name, path)| Runtime {
            name,
            path: path.display().to_string(),
            open_with: None,
            needs: Vec::new(),
        })
        .collect();
    runtimes.extend(sessions.runtimes().unreachable(&policy, &home).into_iter().map(|missing| {
        Runtime {
            name: missing.name,
            path: missing.path.display().to_string(),
            open_with: Some(
                missing
                    .allow_read
                    .iter()
                    .map(|path| allow_read(path))
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
            needs: missing
                .variables
                .iter()
                .map(|(name, value)| format!("{name}={}", value.display()))
                .collect(),
        }
    }));
    let node_path = sessions.runtimes().node_path.as_ref().map(|path| path.display().to_string());
    Ok((runtimes, node_path))
}

fn allow_read(path: &Path) -> String {
    format!("--allow-read {}", path.display())
}

/// Counts the variables, and names those that no command gets.
fn described_variables(variables: &[VariableSummary]) -> String {
    let skipped = variables.iter().filter_map(|variable| {
        let reason = variable.skipped.as_ref()?;
        Some(format!("; {} is left out: {reason}", printable(&variable.name)))
    });
    format!("{} stored{}", variables.len(), skipped.collect::<String>())
}

/// Checks that the store can be listed and changed.
async fn store(context: &Context) -> Check {
    let opened = context.storage().and_then(|store| Ok((store, context.store_location()?)));
    let (storage, location) = match opened {
        Ok(opened) => opened,
        Err(failure) => return Check { ok: false, detail: failure.message().into_owned() },
    };
    match (storage.check().await, storage.check_writable().await) {
        (Ok(()), Ok(())) => Check { ok: true, detail: location },
        (Err(error), _) => Check::failed(&location, &error),
        (Ok(()), Err(error)) => Check::failed(&format!("{location} cannot be written"), &error),
    }
}

/// Returns the files by which programs of this machine trust the certificates of terminated TLS.
fn trust(tier: &Tier) -> String {
    if *tier != Tier::Namespaces {
        return "none: the engine has no network".to_owned();
    }
    let files = Trust::bundle_targets().into_iter().chain(Trust::keystore_targets());
    let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
    match files.is_empty() {
        true => "none: no file has the certificates of the system; install ca-certificates".into(),
        false => files.join(", "),
    }
}

fn show(report: &Report) {
    outln!("engine {}", report.engine);
    // An engine that cannot open has the same reason for each layer.
    let shared = report.layers.first().filter(|_| !report.is_open).map(|layer| &layer.enforced);
    match shared {
        Some(reason) => outln!("  {:<13} {reason}", "all layers"),
        None => {
            for layer in &report.layers {
                outln!("  {:<13} {}", layer.name, layer.enforced);
            }
        }
    }
    if report.is_open {
        outln!("  {:<13} {}", "capture", report.capture);
        outln!("  {:<13} {}", "trust", report.trust);
    }
    if let Some(weaker) = report.weaker {
        outln!("  {:<13} {weaker}", "weaker");
    }
    outln!("limits");
    for limit in &report.limits {
        outln!("  {:<13} {}", limit.name, limit.limit);
    }
    outln!("runtimes");
    for runtime in &report.runtimes {
        match &runtime.open_with {
            None => outln!("  {:<13} {}", runtime.name, runtime.path),
            Some(options) => {
                let Runtime { name, path, needs, .. } = runtime;
                let variables = match needs.join(" ") {
                    needs if needs.is_empty() => needs,
                    needs => format!("; it needs the variable {needs} too"),
                };
                outln!("  {name:<13} {path} is unreachable; use {options}{variables}");
            }
        }
    }
    if let Some(node_path) = &report.node_path {
        outln!("  {:<13} {node_path}", "NODE_PATH");
    }
    let checks = [
        ("home", &report.home),
        ("settings", &report.settings),
        ("store", &report.store),
        ("variables", &report.variables),
    ];
    for (name, check) in checks {
        outln!("{name:<15} {}{}", if check.ok { "" } else { "FAILS: " }, check.detail);
    }
    outln!("URL schemes");
    for SchemeCheck { scheme, remedy, .. } in &report.schemes {
        outln!("  {scheme:<13} {}", remedy.as_deref().unwrap_or("built in"));
    }
}
