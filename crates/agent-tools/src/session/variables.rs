//! The variables of an open session: the environment of its commands, and the redactor of its
//! results. They follow their source while the session is open.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use policy::Policy;
use sandbox_core::internal::lock;
use secrecy::{ExposeSecret, SecretString};
use secrets::{
    Changed, LoadedVariables, MaskSpec, Masks, RELOAD_AFTER, Redactor, Revision, VariableSource,
};
use skill_store::SkillName;
use tokio::time::Instant;

use super::masking;
use super::placeholders::Placeholders;
use crate::environment::{self, Environment};
use crate::log_redaction;
use crate::redaction::OutputRedactor;
use crate::runtimes::HostRuntimes;

/// The maximum number of former values that results are still searched for.
const MAX_FORMER: usize = 1000;
/// The maximum number of variables that warnings name one by one.
const MAX_NAMED: usize = 20;

/// The variables that commands get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum VariableSelection {
    /// All variables of the source.
    #[default]
    All,
    /// Those with these names.
    Named(BTreeSet<String>),
    /// Those that the session's skills request: with a value `variables` in the `metadata` of
    /// their front matter, as names separated by blanks or commas.
    OfSkills,
}

/// The inputs of an environment that stay the same while a session is open.
#[derive(Debug)]
pub(crate) struct EnvironmentRecipe {
    pub(crate) runtimes: HostRuntimes,
    pub(crate) venv: Option<PathBuf>,
    pub(crate) policy: Policy,
    pub(crate) selected: Selected,
    /// The masks of the session's request, by the names of variables.
    pub(crate) masks: BTreeMap<String, MaskSpec>,
    /// True if the log of this process has placeholders for the values.
    pub(crate) redacts_logs: bool,
    pub(crate) placeholders: Placeholders,
}

/// The names of the variables that commands get.
#[derive(Debug)]
pub(crate) enum Selected {
    All,
    Named(BTreeSet<String>),
    /// Those that each skill requests.
    OfSkills(BTreeMap<SkillName, BTreeSet<String>>),
}

impl Selected {
    fn gives(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
            Self::OfSkills(requests) => requests.values().any(|names| names.contains(name)),
        }
    }

    /// Returns the names; none if all variables are selected.
    fn names(&self) -> BTreeSet<&String> {
        match self {
            Self::All => BTreeSet::new(),
            Self::Named(names) => names.iter().collect(),
            Self::OfSkills(requests) => requests.values().flatten().collect(),
        }
    }
}

/// The variables of an open session.
pub(crate) struct SessionVariables {
    source: Option<Arc<dyn VariableSource>>,
    /// True if the skills select the variables.
    pub(crate) follows_skills: bool,
    current: RwLock<Arc<Loadout>>,
    /// Held while the source is asked, so that concurrent commands wait for one answer.
    following: tokio::sync::Mutex<Following>,
    /// Warnings that no result has reported.
    unreported: Mutex<Vec<String>>,
}

/// The environment and the redactor of one load.
#[derive(Debug)]
pub(crate) struct Loadout {
    pub(crate) environment: Environment,
    pub(crate) redactor: Arc<Redactor>,
    /// For output on its way.
    pub(crate) output: Arc<OutputRedactor>,
    /// The variables that commands use without their values.
    pub(crate) masks: Arc<Masks>,
    /// Warnings about the variables that commands lack. Each result has them.
    pub(crate) lacking: Vec<String>,
    /// The reasons for which commands lack variables of the source, by name.
    pub(crate) reasons: BTreeMap<String, String>,
    revision: Option<Revision>,
}

struct Following {
    recipe: EnvironmentRecipe,
    /// True if the selection has changed since the last load.
    is_stale: bool,
    /// The time of the last attempt to load.
    loaded: Instant,
    /// The names and values of the last load.
    values: Vec<(String, SecretString)>,
    /// Values that the session had before. Files and running commands may still have them.
    former: Vec<(String, SecretString)>,
    /// Warnings that were reported.
    reported: BTreeSet<String>,
}

impl SessionVariables {
    /// Composes the first environment. Returns the warnings too.
    pub(crate) fn new(
        source: Option<Arc<dyn VariableSource>>,
        recipe: EnvironmentRecipe,
        loaded: &LoadedVariables,
    ) -> (Self, Vec<String>) {
        let (loadout, values, warnings) = recipe.prepare(loaded, &[], &recipe.placeholders.load());
        let follows_skills = matches!(recipe.selected, Selected::OfSkills(_));
        let following = Following {
            recipe,
            is_stale: false,
            loaded: Instant::now(),
            values,
            former: Vec::new(),
            reported: warnings.iter().cloned().collect(),
        };
        let variables = Self {
            source,
            follows_skills,
            current: RwLock::new(Arc::new(loadout)),
            following: tokio::sync::Mutex::new(following),
            unreported: Mutex::default(),
        };
        (variables, warnings)
    }

    pub(crate) fn current(&self) -> Arc<Loadout> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the warnings of a result: those about variables that its command lacked, and those
    /// that no result has reported.
    pub(crate) fn take_warnings(&self, loadout: &Loadout) -> Vec<String> {
        let mut warnings = loadout.lacking.clone();
        let new = std::mem::take(&mut *lock(&self.unreported));
        warnings.extend(new.into_iter().filter(|warning| !loadout.lacking.contains(warning)));
        warnings
    }

    /// Gives commands the variables that a skill requests, instead of those that the skill of this
    /// name has requested before. The next command loads them.
    pub(crate) async fn request(&self, skill: SkillName, names: BTreeSet<String>) {
        let mut following = self.following.lock().await;
        if let Selected::OfSkills(requests) = &mut following.recipe.selected {
            requests.insert(skill, names);
            following.is_stale = true;
        }
    }

    /// Loads the variables again if the source reports a change, and otherwise after
    /// [`RELOAD_AFTER`]. If that fails, the variables stay, and the next result says so.
    ///
    /// # Cancel safety
    /// The variables stay as they were, and the next call asks again.
    pub(crate) async fn follow(&self) {
        let Some(source) = &self.source else { return };
        let mut following = self.following.lock().await;
        let is_due = following.is_stale || following.loaded.elapsed() >= RELOAD_AFTER;
        if !is_due && !self.has_changed(source.as_ref()).await {
            return;
        }
        let loaded = source.load().await;
        following.loaded = Instant::now();
        // A source that is down delays one command, not every one.
        following.is_stale = false;
        match loaded {
            Ok(loaded) => self.adopt(&mut following, &loaded),
            Err(error) => {
                let cause = sandbox_core::with_causes(&error);
                let warning = format!(
                    "the variables could not be loaded again, so commands have those of before: \
                     {cause}"
                );
                self.report(&mut following, vec![warning]);
            }
        }
    }

    async fn has_changed(&self, source: &dyn VariableSource) -> bool {
        match &self.current().revision {
            Some(revision) => {
                let asked = tokio::time::timeout(ANSWER, source.changed_since(revision)).await;
                asked == Ok(Changed::Yes)
            }
            None => false,
        }
    }

    fn adopt(&self, following: &mut Following, loaded: &LoadedVariables) {
        let replaced: Vec<_> = following
            .values
            .iter()
            .filter(|(name, value)| {
                let current = loaded.variables.get(name);
                let current = current.filter(|_| following.recipe.selected.gives(name));
                current.is_none_or(|current| current.expose_secret() != value.expose_secret())
            })
            .cloned()
            .collect();
        following.former.extend(replaced);
        let excess = following.former.len().saturating_sub(MAX_FORMER);
        following.former.drain(..excess);
        let (loadout, values, warnings) = {
            let masks = Arc::clone(&self.current().masks);
            following.recipe.prepare(loaded, &following.former, &masks)
        };
        following.values = values;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loadout);
        // A later failure is reported again.
        following.reported.retain(|warning| warnings.contains(warning));
        self.report(following, warnings);
    }

    fn report(&self, following: &mut Following, warnings: Vec<String>) {
        let new = warnings.into_iter().filter(|warning| following.reported.insert(warning.clone()));
        lock(&self.unreported).extend(new);
    }
}

const UNSELECTED: &str = "the selection of variables leaves it out";
const OMITTED: &str = "omitted, because a command's environment would be too large";

/// The time in which a source must say whether it has changed. Otherwise, nothing has changed yet.
const ANSWER: Duration = Duration::from_millis(100);

impl EnvironmentRecipe {
    fn prepare(
        &self,
        loaded: &LoadedVariables,
        former: &[(String, SecretString)],
        masks: &Masks,
    ) -> (Loadout, Vec<(String, SecretString)>, Vec<String>) {
        let mut given = secrets::Variables::new();
        for (name, value) in loaded.variables.iter().filter(|(name, _)| self.gives(name)) {
            // The set has accepted it before.
            let _ = given.insert(name, value.clone());
        }
        let masked = masking::mask(&given, &loaded.masks, &self.masks, masks);
        let (host, venv, shown) = (std::env::vars_os(), self.venv.as_deref(), &masked.shown);
        let environment = environment::compose(host, &self.runtimes, venv, &self.policy, shown);
        let values: Vec<_> =
            given.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
        let known = values.iter().chain(former).map(|(name, value)| (name.as_str(), value));
        let is_masked = |name: &str| masked.masks.placeholder(name).is_some();
        let output = Arc::new(OutputRedactor::of(known.clone(), is_masked));
        let redactor = Arc::new(Redactor::of(known));
        if self.redacts_logs {
            log_redaction::register(&redactor);
        }
        let lacking = self.lacking(loaded, &given, &environment);
        let mut warnings = lacking.clone();
        warnings.extend(replaced_and_short(&environment, &redactor, &given));
        warnings.extend(masked.warnings);
        warnings.extend(self.placeholders.keep(masks, &masked.masks));
        let (revision, masks) = (loaded.revision.clone(), Arc::new(masked.masks));
        let reasons = self.reasons(loaded, &environment);
        let loadout = Loadout { environment, redactor, output, masks, lacking, reasons, revision };
        (loadout, values, warnings)
    }

    fn gives(&self, name: &str) -> bool {
        self.selected.gives(name)
    }

    /// Returns the reasons for which commands lack variables of the source, by name.
    fn reasons(
        &self,
        loaded: &LoadedVariables,
        environment: &Environment,
    ) -> BTreeMap<String, String> {
        let skipped = loaded.skipped.iter();
        let skipped = skipped.map(|skipped| (skipped.name.clone(), skipped.reason.to_string()));
        let unselected = loaded.variables.iter().filter(|(name, _)| !self.gives(name));
        let unselected = unselected.map(|(name, _)| (name.to_owned(), UNSELECTED.to_owned()));
        let omitted = environment.omitted.iter().map(|name| (name.clone(), OMITTED.to_owned()));
        let empty =
            loaded.variables.iter().filter(|(name, value)| self.gives(name) && is_empty(value));
        let empty = empty.map(|(name, _)| (name.to_owned(), "empty".to_owned()));
        skipped.chain(unselected).chain(omitted).chain(empty).collect()
    }

    /// Warns about the variables that commands lack, by reason.
    fn lacking(
        &self,
        loaded: &LoadedVariables,
        given: &secrets::Variables,
        environment: &Environment,
    ) -> Vec<String> {
        let skipped: Vec<_> =
            loaded.skipped.iter().filter(|skipped| self.gives(&skipped.name)).collect();
        let is_absent = |name: &&String| {
            given.get(name).is_none() && !skipped.iter().any(|skipped| skipped.name == **name)
        };
        let mut reasons: Vec<(String, Vec<&String>)> = Vec::new();
        for skipped in &skipped {
            let reason = skipped.reason.to_string();
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, names)) => names.push(&skipped.name),
                None => reasons.push((reason, vec![&skipped.name])),
            }
        }
        let absent = self.selected.names().into_iter().filter(is_absent).collect();
        reasons.push(("selected, but not in the source".to_owned(), absent));
        reasons.push((OMITTED.to_owned(), environment.omitted.iter().collect()));
        let named = reasons.iter();
        named.filter_map(|(reason, names)| Some(format!("{}: {reason}", list(names)?))).collect()
    }
}

/// Warns about variables whose value is not that of the source, or is shown in results.
fn replaced_and_short(
    environment: &Environment,
    redactor: &Redactor,
    given: &secrets::Variables,
) -> Vec<String> {
    let (overridden, short) = (environment.overridden.iter(), redactor.unredacted().iter());
    // An empty value shows nothing.
    let short = short.filter(|name| given.get(name).is_none_or(|value| !is_empty(value)));
    let lists = [
        (overridden.collect::<Vec<_>>(), "the session sets it itself"),
        (short.collect(), "too short to be redacted in results"),
    ];
    let warnings = lists.iter();
    warnings.filter_map(|(names, reason)| Some(format!("{}: {reason}", list(names)?))).collect()
}

fn is_empty(value: &SecretString) -> bool {
    value.expose_secret().is_empty()
}

/// Names the first of several variables; `None` without any.
fn list(names: &[&String]) -> Option<String> {
    let shown: Vec<&str> = names.iter().take(MAX_NAMED).map(|name| name.as_str()).collect();
    let more = names.len() - shown.len();
    let (plural, shown) = (if names.len() == 1 { "" } else { "s" }, shown.join(", "));
    match (names.len(), more) {
        (0, _) => None,
        (_, 0) => Some(format!("variable{plural} {shown}")),
        _ => Some(format!("variable{plural} {shown} and {more} more")),
    }
}

/// Returns the names that the SKILL.md of a skill requests.
pub(crate) fn requested_by_skill(skill_file: &[u8]) -> Result<BTreeSet<String>, String> {
    let front_matter =
        skill_store::FrontMatter::parse(skill_file).map_err(|error| error.to_string())?;
    let requested = front_matter.metadata.get("variables").map(String::as_str).unwrap_or_default();
    let names = requested.split([' ', '\t', '\n', ',']).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

impl fmt::Debug for SessionVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionVariables").field("current", &self.current()).finish_non_exhaustive()
    }
}
