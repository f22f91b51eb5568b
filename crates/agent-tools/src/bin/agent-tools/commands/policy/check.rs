//! `policy check`: all findings about a file of settings, printed like a compiler does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_tools::policy::{
    Lint, LintCode, Location, ParseError, PathEntry, Policy, PolicyError, Recovered,
    SandboxRuntimeConfig, SettingPath, Unenforced, UnenforcedReason,
};
use agent_tools::{NetworkError, NetworkSpec};
use sandbox_core::NativeSandbox;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::outln;
use crate::settings;

/// Number of characters of a line that are shown before and after a place.
const SHOWN_BEFORE: usize = 40;
const SHOWN_AFTER: usize = 80;

/// Checks a file. The result is an error if a sandbox with these settings would not open.
pub(super) fn check(context: &Context, file: &Path) -> Result<ExitCode, Failure> {
    let text = settings::text_of(file)?;
    let mut findings = Findings { text: &text, found: Vec::new() };
    let outcome = judge(context, file, &mut findings);
    let valid = outcome.is_ok();
    if let Err(failure) = &outcome
        && !findings.found.iter().any(|finding| matches!(finding.severity, Severity::Error))
    {
        let rule = SandboxRuntimeConfig::from_json(&text).ok().map(|config| {
            let is_named = |entry: &PathEntry| names(&failure.message(), &entry.to_string());
            entry_path(&config, is_named)
        });
        findings.error("does-not-open", &rule.unwrap_or_default(), &failure.message());
    }
    findings.found.sort_by_key(|finding| finding.location.map(|at| (at.line, at.column)));
    context.print(&serde_json::json!({ "valid": valid, "findings": findings.found }), || {
        findings.found.iter().for_each(|finding| finding.print(file, &text));
        if valid {
            outln!("{} is valid", file.display());
        }
    })?;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Judges the settings in the order in which a sandbox would fail.
fn judge(context: &Context, file: &Path, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let recovered = SandboxRuntimeConfig::recover(findings.text);
    recovered.errors.iter().for_each(|error| findings.unreadable(error));
    for error in &recovered.invalid {
        findings.error("invalid-value", &error.path, &error.problem);
    }
    let outcome = settings::parse(file, findings.text);
    let config = match (outcome, recovered.config.clone()) {
        (Err(failure), Some(config)) => {
            // The other settings have findings too. The failure is about the first error.
            let _ = settings::with_absolute_paths(file, config)
                .and_then(|config| judge_rules(context, file, config, findings, &recovered));
            return Err(failure);
        }
        (outcome, _) => outcome?,
    };
    judge_rules(context, file, config, findings, &recovered)
}

/// Judges the settings that can be read.
fn judge_rules(
    context: &Context,
    file: &Path,
    config: SandboxRuntimeConfig,
    findings: &mut Findings<'_>,
    recovered: &Recovered,
) -> Result<(), Failure> {
    if let Err(PolicyError::Rule { source }) =
        Policy::from_config(config.clone(), &settings::home())
    {
        let rule = in_home(&source.rule);
        let path = entry_path(&config, |entry| in_home(&entry.to_string()) == rule);
        findings.error("invalid-rule", &path, &source.to_string());
    }
    let cwd = settings::working_directory()?;
    let home = context.home().ok();
    let protected = context.protected_files(Some(file))?;
    let of = |config| {
        settings::policy_of_command(config, &cwd, home.as_ref(), &protected, &context.tier())
    };
    let policy = of(config.clone())?;
    // About a setting with an effect on the engine, the engine's report suffices.
    let own = NativeSandbox::lint(&policy);
    let mut lints = policy.lint();
    lints.retain(|lint| own.iter().all(|own| own.path != lint.path));
    let lints = lints.into_iter().chain(own);
    lints.filter(|lint| !recovered.is_affected(&lint.path)).for_each(|lint| findings.lint(lint));
    // A project restricts `sandbox`, and no finding about the settings is about that.
    let mut restricted = config;
    context.project()?.restrict_settings(&mut restricted);
    let policy = of(restricted)?;
    if let Some(problem) = settings::hidden_start(&policy, &cwd) {
        let problem = format!("`agent-tools sandbox` runs nothing here: {problem}");
        findings.add(Severity::Note, "hidden-start", &SettingPath::from("filesystem"), &problem);
    }
    let gaps = NativeSandbox::check(&policy, &context.tier()).map_err(Failure::not_run)?;
    gaps.iter().for_each(|gap| findings.gap(policy.config(), gap));
    let checked = NetworkSpec::new().check(&policy.config().network).map(drop);
    checked.map_err(|error| {
        if let NetworkError::ParentProxy { key } = error {
            let path = SettingPath::from("network").key("parentProxy").key(key);
            findings.error("unsupported", &path, &error.to_string());
        }
        Failure::not_run(error)
    })
}

/// Importance of a finding.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// No sandbox opens with the setting.
    Error,
    /// The setting does not do what it says.
    Warning,
    /// The setting does nothing on the files that exist now.
    Note,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One finding about the file.
#[derive(Debug, Serialize)]
struct Finding {
    severity: Severity,
    code: String,
    path: String,
    pointer: String,
    #[serde(flatten, serialize_with = "location")]
    location: Option<Location>,
    problem: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

fn location<S: serde::Serializer>(
    location: &Option<Location>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Position {
        line: usize,
        column: usize,
    }
    location.map(|at| Position { line: at.line, column: at.column }).serialize(serializer)
}

impl Finding {
    fn print(&self, file: &Path, text: &str) {
        let path = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        outln!("{}[{}]: {path}{}", self.severity.as_str(), self.code, self.problem);
        let Some(at) = self.location else { return };
        outln!("  --> {}:{}:{}", file.display(), at.line, at.column);
        let line = text.lines().nth(at.line - 1).unwrap_or_default();
        let start = (at.column - 1).saturating_sub(SHOWN_BEFORE);
        let shown: String = line.chars().skip(start).take(SHOWN_BEFORE + SHOWN_AFTER).collect();
        let shown = shown.replace(char::is_control, " ");
        let number = at.line.to_string();
        let margin = " ".repeat(number.len());
        let caret_at = at.column - 1 - start;
        let width = at.width.min(SHOWN_AFTER);
        outln!(" {margin} |");
        outln!(" {number} | {shown}");
        outln!(" {margin} | {}{}", " ".repeat(caret_at), "^".repeat(width));
        if let Some(remedy) = &self.remedy {
            outln!(" {margin} = help: {remedy}");
        }
    }
}

/// Findings about the text of a file.
struct Findings<'t> {
    text: &'t str,
    found: Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, severity: Severity, code: &str, path: &SettingPath, problem: &str) {
        self.found.push(Finding {
            severity,
            code: code.to_owned(),
            path: path.to_string(),
            pointer: path.pointer(),
            location: Some(path.find_in(self.text)),
            problem: problem.to_owned(),
            remedy: None,
        });
    }

    fn error(&mut self, code: &str, path: &SettingPath, problem: &str) {
        self.add(Severity::Error, code, path, problem);
    }

    /// Adds an error of the parser, whose text names the path already.
    fn unreadable(&mut self, error: &ParseError) {
        let path = error.path().cloned().unwrap_or_default();
        let text = error.to_string();
        let prefix = format!("{path}: ");
        self.found.push(Finding {
            severity: Severity::Error,
            code: "unreadable".to_owned(),
            path: path.to_string(),
            pointer: path.pointer(),
            location: Some(error.location()),
            problem: text.strip_prefix(&prefix).unwrap_or(&text).to_owned(),
            remedy: None,
        });
    }

    fn lint(&mut self, lint: Lint) {
        let severity = match lint.code {
            LintCode::Unsupported => Severity::Error,
            _ => Severity::Warning,
        };
        self.add(severity, lint.code.as_str(), &lint.path, &lint.problem);
        if let Some(finding) = self.found.last_mut() {
            finding.remedy = Some(lint.remedy);
        }
    }

    fn gap(&mut self, config: &SandboxRuntimeConfig, gap: &Unenforced) {
        let rule = Path::new(&gap.rule);
        let is_meant = |entry: &PathEntry| in_home(&entry.to_string()) == rule;
        let mut path = entry_path(config, is_meant);
        if path == SettingPath::root() {
            path = SettingPath::from("filesystem").key(gap.list);
        }
        let severity = match gap.reason {
            UnenforcedReason::Replaced => Severity::Warning,
            _ => Severity::Note,
        };
        self.add(severity, "unenforced", &path, &describe_gap(gap));
    }
}

/// Returns whether a text names an entry as a whole path, and not as a part of another one.
fn names(text: &str, entry: &str) -> bool {
    let path = in_home(entry);
    let path = path.to_string_lossy();
    let path = path.trim_end_matches("/**");
    let path = if path.is_empty() { "/" } else { path };
    let is_part = |c: char| c.is_alphanumeric() || "/._-*~".contains(c);
    text.match_indices(path).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + path.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// Returns the path of an entry, which begins in the home directory if it begins with `~/`.
fn in_home(entry: &str) -> PathBuf {
    match Path::new(entry).strip_prefix("~") {
        Ok(below) => settings::home().join(below),
        Err(_) => PathBuf::from(entry),
    }
}

/// Returns the path of the first entry of `filesystem` that is meant, or the path of the file.
fn entry_path(config: &SandboxRuntimeConfig, is_meant: impl Fn(&PathEntry) -> bool) -> SettingPath {
    let files = &config.filesystem;
    let lists = [
        ("denyRead", files.deny_read.as_slice()),
        ("allowRead", files.allow_read.as_deref().unwrap_or_default()),
        ("allowWrite", files.allow_write.as_slice()),
        ("denyWrite", files.deny_write.as_slice()),
    ];
    let root = SettingPath::from("filesystem");
    let mut found = lists.into_iter().filter_map(|(name, list)| {
        list.iter().position(&is_meant).map(|at| root.key(name).index(at))
    });
    found.next().unwrap_or_default()
}

/// Describes a rule that is not enforced, with the cause if its path looks like one of a shell.
fn describe_gap(gap: &Unenforced) -> String {
    let begins_with = |sign| gap.rule.split('/').any(|name| name.starts_with(sign));
    let cause = match gap.reason {
        UnenforcedReason::Absent if begins_with('$') => "; variables are not expanded",
        UnenforcedReason::Absent if begins_with('~') => {
            "; only `~` and `~/` at the beginning name a home directory"
        }
        _ => "",
    };
    format!("{}: {}{cause}", gap.rule, gap.reason)
}
