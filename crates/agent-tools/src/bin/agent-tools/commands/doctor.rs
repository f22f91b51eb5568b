//! The subcommand `doctor`: sandbox layers, runtimes, store and variables of this machine, and
//! remedies.

use std::process::ExitCode;

use agent_tools::{Enforcement, Tier};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::schemes::{self, Scheme};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    engine: &'static str,
    /// A weaker engine that works, if the requested one does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    weaker: Option<&'static str>,
    layers: Vec<Layer>,
    runtimes: Vec<Runtime>,
    node_path: Option<String>,
    home: String,
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
}

#[derive(Serialize)]
struct Check {
    ok: bool,
    detail: String,
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
    let sessions = context.sessions()?;
    let policy = sessions.policy(&context.spec(args)?).map_err(Failure::failed)?;
    let home = std::env::home_dir().unwrap_or_default();
    let mut runtimes: Vec<Runtime> = sessions
        .runtimes()
        .reachable(&policy)
        .into_iter()
        .map(|(name, path)| Runtime { name, path: path.display().to_string(), open_with: None })
        .collect();
    runtimes.extend(sessions.runtimes().unreachable(&policy, &home).into_iter().map(|missing| {
        Runtime {
            name: missing.name,
            path: missing.path.display().to_string(),
            open_with: Some(format!("--allow-read {}", missing.allow_read.display())),
        }
    }));
    let storage = context.storage()?;
    let store = match storage.check().await {
        Ok(()) => Check { ok: true, detail: storage.to_string() },
        Err(error) => {
            Check { ok: false, detail: format!("{storage}: {}", agent_tools::with_causes(&error)) }
        }
    };
    let variables = match context.variables().await {
        Ok(variables) => match variables.list().await {
            Ok(variables) => Check { ok: true, detail: format!("{} stored", variables.len()) },
            Err(error) => Check { ok: false, detail: agent_tools::with_causes(&error) },
        },
        Err(failure) => Check { ok: false, detail: failure.message().to_owned() },
    };
    let landlock = Tier::Landlock { accepted: Vec::new() };
    let weaker = (!engine.is_usable()
        && context.tier() == Tier::Namespaces
        && agent_tools::probe(&landlock).is_usable())
    .then_some("--engine landlock works here and is weaker; check it with doctor");
    let usable = engine.is_usable() && store.ok && variables.ok;
    let layers = engine.layers().map(|(name, enforcement): (_, &Enforcement)| Layer {
        name,
        enforced: enforcement.to_string(),
    });
    Ok(Report {
        engine: engine.engine,
        weaker,
        layers: layers.into(),
        runtimes,
        node_path: sessions.runtimes().node_path.as_ref().map(|path| path.display().to_string()),
        home: sessions.home().path().display().to_string(),
        store,
        variables,
        schemes: schemes::STORES.iter().chain(&schemes::VARIABLES).map(SchemeCheck::new).collect(),
        usable,
    })
}

fn show(report: &Report) {
    println!("engine {}", report.engine);
    for layer in &report.layers {
        println!("  {:<13} {}", layer.name, layer.enforced);
    }
    if let Some(weaker) = report.weaker {
        println!("  {:<13} {weaker}", "weaker");
    }
    println!("runtimes");
    for runtime in &report.runtimes {
        match &runtime.open_with {
            None => println!("  {:<13} {}", runtime.name, runtime.path),
            Some(option) => println!(
                "  {:<13} {} is unreachable; {option} allows it",
                runtime.name, runtime.path
            ),
        }
    }
    if let Some(node_path) = &report.node_path {
        println!("  {:<13} {node_path}", "NODE_PATH");
    }
    println!("home            {}", report.home);
    for (name, check) in [("store", &report.store), ("variables", &report.variables)] {
        println!("{name:<15} {}{}", if check.ok { "" } else { "FAILS: " }, check.detail);
    }
    println!("URL schemes");
    for SchemeCheck { scheme, remedy, .. } in &report.schemes {
        println!("  {scheme:<13} {}", remedy.as_deref().unwrap_or("built in"));
    }
}
