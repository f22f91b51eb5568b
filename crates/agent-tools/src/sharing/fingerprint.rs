//! The settings of a session in a form that two processes can compare.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use artifact_sync::{Durability, IgnoreRules};
use policy::{Access, Policy, Rule, Verdict};
use sandbox_core::Tier;
use secrecy::ExposeSecret;
use secrets::{MaskSpec, Variables};
use serde::{Deserialize, Serialize};
use skill_store::VerifyingKey;

use super::error::Difference;
use super::token::Token;
use crate::network::NetworkRules;
use crate::session::{SessionSettings, VariableSelection};
use crate::storage::Storage;

/// Keyed hashes of the settings that decide about the access of commands and the place of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Fingerprint {
    policy: String,
    /// Empty for a client that accepts each network.
    network: String,
    variables: String,
    engine: String,
    store: String,
    /// Set if changes on the local disk survive a loss of power.
    is_flushed: bool,
    user: Option<String>,
    /// Hashes of the keys that verify skills. Without one, none is verified.
    #[serde(default)]
    skill_keys: BTreeSet<String>,
    /// Paths of directories that must be hidden, in bytes. The server may hide more.
    hidden: Vec<Vec<u8>>,
    /// Paths of files that must not be writable, in bytes. The server may protect more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    frozen: Vec<Vec<u8>>,
    /// Settings that only the server applies, by hashes. Those that are not set are absent.
    #[serde(default)]
    mirroring: BTreeMap<Mirroring, String>,
}

/// A setting of the mirror that the server alone decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Mirroring {
    Ignore,
    Projection,
    Retention,
}

impl Mirroring {
    /// Returns the warning that a client gets whose setting differs.
    fn warning(self, pid: u32) -> String {
        let (setting, option) = match self {
            Self::Ignore => ("ignore rules", "--ignore"),
            Self::Projection => ("projection", "--no-projection"),
            Self::Retention => ("retention time", "--retention"),
        };
        format!(
            "process {pid} serves the session with another {setting}, so {option} of this call \
             has no effect; end that process to use it"
        )
    }
}

/// The settings that a fingerprint is made of.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'s> {
    /// The policy without the directories of the host application, which are in `hidden`.
    pub(crate) policy: &'s Policy,
    pub(crate) network: &'s NetworkRules,
    /// Set for a client that accepts each network.
    pub(crate) for_files: bool,
    pub(crate) hidden: &'s [PathBuf],
    /// The files of the host application that no command writes.
    pub(crate) frozen: &'s [PathBuf],
    pub(crate) variables: VariablesKey<'s>,
    pub(crate) selection: &'s VariableSelection,
    /// Masks that the request of the session adds.
    pub(crate) masks: &'s BTreeMap<String, MaskSpec>,
    pub(crate) session: &'s SessionSettings,
    pub(crate) storage: Option<&'s Storage>,
    pub(crate) durability: Durability,
    pub(crate) user: Option<&'s str>,
    pub(crate) skill_keys: &'s [VerifyingKey],
    pub(crate) ignore: Option<&'s IgnoreRules>,
    pub(crate) retention: Option<Duration>,
    /// Set to keep files in the session logs only.
    pub(crate) without_projection: bool,
}

/// The variables of a session, as two processes compare them.
#[derive(Clone, Copy)]
pub(crate) enum VariablesKey<'s> {
    /// The name of their source.
    Identity(&'s str),
    /// Names and values, because the source has no name.
    Values(&'s Variables),
}

impl Fingerprint {
    /// Hashes the settings with the key of a server.
    pub(super) fn new(token: &Token, settings: &Settings<'_>) -> Self {
        let Settings {
            policy,
            network,
            for_files,
            hidden,
            frozen,
            variables,
            selection,
            masks,
            session,
            storage,
            durability,
            user,
            ..
        } = *settings;
        let hash = |subject: &str, parts: &[&[u8]]| hash(token, subject, parts);
        let mut parts: Vec<&[u8]> = Vec::new();
        let subject = match variables {
            VariablesKey::Identity(identity) => {
                parts.push(identity.as_bytes());
                "source of variables"
            }
            VariablesKey::Values(variables) => {
                for (name, value) in variables.iter() {
                    parts.extend([name.as_bytes(), value.expose_secret().as_bytes()]);
                }
                "variables"
            }
        };
        // Without a selection, the parts are those of earlier versions.
        match selection {
            VariableSelection::All => {}
            VariableSelection::Named(names) => {
                parts.push(b"selected by name");
                parts.extend(names.iter().map(String::as_bytes));
            }
            VariableSelection::OfSkills => parts.push(b"selected by skills"),
        }
        let masks = if masks.is_empty() { String::new() } else { format!("{masks:?}") };
        if !masks.is_empty() {
            parts.extend([&b"masks"[..], masks.as_bytes()]);
        }
        let tier = match &session.tier {
            _ if session.engine.is_some() => "of the embedder".to_owned(),
            Tier::Namespaces => "namespaces".to_owned(),
            Tier::Landlock { accepted } => {
                let mut accepted: Vec<_> =
                    accepted.iter().map(|weakness| weakness.name()).collect();
                accepted.sort_unstable();
                accepted.dedup();
                format!("landlock {}", accepted.join(","))
            }
        };
        let limits = format!("{:?}", session.limits);
        let store =
            storage.map_or_else(String::new, |storage| format!("{} {storage}", storage.store));
        let mirroring = [
            (Mirroring::Ignore, settings.ignore.map(IgnoreRules::identity)),
            (Mirroring::Projection, settings.without_projection.then(|| "none".to_owned())),
            (Mirroring::Retention, settings.retention.map(|time| time.as_secs().to_string())),
        ];
        let mirroring = mirroring.into_iter().filter_map(|(setting, value)| {
            Some((setting, hash("mirroring", &[value?.as_bytes()])))
        });
        let skill_keys = settings.skill_keys.iter().map(|key| {
            let line = key.to_string();
            hash("skill key", &[line.as_bytes()])
        });
        let is_local = storage.is_some_and(|storage| storage.capabilities.root.is_some());
        Self {
            policy: hash("policy", &[&policy.identity_without_network()]),
            network: if for_files { String::new() } else { hash_network(token, network) },
            variables: hash(subject, &parts),
            engine: hash("engine", &[tier.as_bytes(), limits.as_bytes()]),
            store: hash("store", &[store.as_bytes()]),
            is_flushed: is_local && durability == Durability::Disk,
            user: user.map(str::to_owned),
            skill_keys: skill_keys.collect(),
            hidden: bytes(hidden),
            frozen: bytes(frozen),
            mirroring: mirroring.collect(),
        }
    }

    /// Returns the settings with the rules for the network that apply now.
    pub(super) fn with_network(&self, token: &Token, network: &NetworkRules) -> Self {
        Self { network: hash_network(token, network), ..self.clone() }
    }

    /// Returns warnings about settings that a client has set, and that this server does not apply.
    pub(super) fn warnings(&self, client: &Self) -> Vec<String> {
        let unused = client
            .mirroring
            .iter()
            .filter(|(setting, value)| self.mirroring.get(setting) != Some(*value));
        unused.map(|(setting, _)| setting.warning(std::process::id())).collect()
    }

    /// Returns whether both have the same user.
    pub(super) fn has_user_of(&self, client: &Self) -> bool {
        self.user == client.user
    }

    /// Returns the settings of a client that differ from these. `policy` is that of this server.
    pub(super) fn differences(&self, client: &Self, policy: &Policy) -> Vec<Difference> {
        let pairs = [
            (Difference::Policy, &self.policy, &client.policy),
            (Difference::Network, &self.network, &client.network),
            (Difference::Variables, &self.variables, &client.variables),
            (Difference::Engine, &self.engine, &client.engine),
            (Difference::Store, &self.store, &client.store),
        ];
        let differing = pairs.into_iter().filter(|(what, own, other)| {
            own != other && (*what != Difference::Network || !other.is_empty())
        });
        let mut found: Vec<Difference> = differing.map(|(what, ..)| what).collect();
        if client.is_flushed && !self.is_flushed {
            found.push(Difference::Durability);
        }
        let is_stricter =
            !self.skill_keys.is_empty() && self.skill_keys.is_subset(&client.skill_keys);
        if !client.skill_keys.is_empty() && !is_stricter {
            found.push(Difference::SkillKeys);
        }
        let visible = paths(&client.hidden).filter(|dir| policy.shows(dir));
        found.extend(visible.map(|path| Difference::VisibleDirectory { path }));
        let is_writable = |file: &PathBuf| {
            let Verdict { allowed, rule, .. } = policy.explain(file, Access::Write);
            allowed && !matches!(rule, Rule::Private { .. })
        };
        let writable = paths(&client.frozen).filter(is_writable);
        found.extend(writable.map(|path| Difference::WritableFile { path }));
        found
    }
}

fn bytes(paths: &[PathBuf]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect()
}

fn paths(bytes: &[Vec<u8>]) -> impl Iterator<Item = PathBuf> {
    bytes.iter().map(|path| PathBuf::from(OsStr::from_bytes(path)))
}

/// Hashes values with the key of a server.
fn hash(token: &Token, subject: &str, parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new_keyed(token.key());
    for part in [subject.as_bytes()].iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

fn hash_network(token: &Token, network: &NetworkRules) -> String {
    let parts = network.identity();
    hash(token, "network", &parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use policy::NetworkConfig;
    use sandbox_core::Limits;

    use super::*;
    use crate::network::NetworkSpec;
    use crate::rules::Rules;

    fn session() -> SessionSettings {
        SessionSettings {
            artifact_label: String::new(),
            instructions: None,
            timeout: Duration::from_secs(1),
            max_timeout: None,
            linger: Duration::ZERO,
            max_output: 1_000,
            keeps_output: true,
            rules: Rules::Standard,
            engine: None,
            limits: Limits::default(),
            tier: Tier::Namespaces,
            tools: crate::tools::ToolSelection::default(),
            redact: true,
            restrictions: None,
        }
    }

    #[test]
    fn each_differing_setting_is_named_and_no_value_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::create(dir.path()).unwrap();
        let build = |read: &str| {
            Policy::session(Path::new("/h/s/1")).allow_read(Path::new(read)).build().unwrap()
        };
        let (policy, variables, plain) = (build("/srv/a"), Variables::default(), session());
        let network = NetworkRules::default();
        let own = Settings {
            policy: &policy,
            network: &network,
            for_files: false,
            hidden: &[],
            frozen: &[],
            variables: VariablesKey::Values(&variables),
            selection: &VariableSelection::All,
            masks: &BTreeMap::new(),
            session: &plain,
            storage: None,
            durability: Durability::default(),
            user: Some("ann"),
            skill_keys: &[],
            ignore: None,
            retention: None,
            without_projection: false,
        };
        let server = Fingerprint::new(&token, &own);
        let check = |client: Settings<'_>, expected: &[Difference]| {
            let client = Fingerprint::new(&token, &client);
            assert_eq!(server.differences(&client, &policy), expected);
        };
        check(own, &[]);
        check(Settings { policy: &build("/srv/b"), ..own }, &[Difference::Policy]);
        let protecting = Policy::session(Path::new("/h/s/1")).allow_read(Path::new("/srv/a"));
        let protecting = protecting.protect_names().build().unwrap();
        check(Settings { policy: &protecting, ..own }, &[Difference::Policy]);
        let mut open = policy::SandboxRuntimeConfig::default();
        open.network.allow_all_unix_sockets = Some(true);
        let open = Policy::custom(Path::new("/h/s/1"), open).build().unwrap();
        let sockets = NetworkRules::new(&open.config().network, None);
        let both = Settings { policy: &open, network: &sockets, ..own };
        check(both, &[Difference::Policy, Difference::Network]);
        let server_of = |text: &str| NetworkSpec::new().expose(text.parse().unwrap());
        let exposed = server_of("db=127.0.0.1:5432");
        let exposing = NetworkRules::new(&NetworkConfig::default(), Some(&exposed));
        let exposing = Settings { network: &exposing, ..own };
        check(exposing, &[Difference::Network]);
        check(Settings { for_files: true, ..exposing }, &[]);
        let mut secret = Variables::default();
        secret.insert("KEY", "hunter2".to_owned().into()).unwrap();
        let with = |variables| Settings { variables, ..own };
        let secret = with(VariablesKey::Values(&secret));
        check(secret, &[Difference::Variables]);
        check(with(VariablesKey::Identity("")), &[Difference::Variables]);
        let some = VariableSelection::Named(["KEY".to_owned()].into());
        for selection in [&some, &VariableSelection::OfSkills] {
            check(Settings { selection, ..own }, &[Difference::Variables]);
        }
        let masks = BTreeMap::from([("KEY".to_owned(), MaskSpec::new(["a.test"]))]);
        check(Settings { masks: &masks, ..own }, &[Difference::Variables]);
        let named = |name| Fingerprint::new(&token, &with(VariablesKey::Identity(name)));
        assert_eq!(named("a").differences(&named("a"), &policy), []);
        assert_eq!(named("a").differences(&named("b"), &policy), [Difference::Variables]);
        let shown = format!("{:?}", Fingerprint::new(&token, &secret));
        assert!(!shown.contains("hunter2") && !shown.contains("KEY"));
        let mut limited = session();
        limited.limits.open_files = 7;
        check(Settings { session: &limited, ..own }, &[Difference::Engine]);
        let mut weaker = session();
        weaker.tier = Tier::Landlock { accepted: Vec::new() };
        check(Settings { session: &weaker, ..own }, &[Difference::Engine]);
        assert!(!server.has_user_of(&Fingerprint::new(&token, &Settings { user: None, ..own })));
        let storage = Storage::open("memory:///").unwrap();
        check(Settings { storage: Some(&storage), ..own }, &[Difference::Store]);
        check(Settings { durability: Durability::Memory, ..own }, &[]);
        let keys = ["A", "B"].map(|last| {
            let line = format!("RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO{last}");
            VerifyingKey::parse(&line).unwrap()
        });
        check(Settings { skill_keys: &keys[..1], ..own }, &[Difference::SkillKeys]);
        let strict = Fingerprint::new(&token, &Settings { skill_keys: &keys[..1], ..own });
        for (skill_keys, expected) in [
            (&keys[..0], &[][..]),
            (&keys[..1], &[]),
            (&keys[..], &[]),
            (&keys[1..], &[Difference::SkillKeys]),
        ] {
            let client = Fingerprint::new(&token, &Settings { skill_keys, ..own });
            assert_eq!(strict.differences(&client, &policy), expected);
        }
        let [hidden, visible] = [PathBuf::from("/home/ann/app"), PathBuf::from("/data/app")];
        check(Settings { hidden: &[hidden], ..own }, &[]);
        let expected = [Difference::VisibleDirectory { path: visible.clone() }];
        check(Settings { hidden: &[visible], ..own }, &expected);
        let [hidden, visible] =
            [&b"/home/\xff"[..], b"/data/\xff"].map(|path| PathBuf::from(OsStr::from_bytes(path)));
        check(Settings { hidden: &[hidden], ..own }, &[]);
        let expected = [Difference::VisibleDirectory { path: visible.clone() }];
        check(Settings { hidden: &[visible], ..own }, &expected);
        let private = policy.clone().with_private(vec!["/data".into()]);
        let client =
            Fingerprint::new(&token, &Settings { hidden: &[PathBuf::from("/data/app")], ..own });
        assert_eq!(server.differences(&client, &private), []);
        let [fixed, writable] = [PathBuf::from("/srv/a/settings.json"), "/h/s/1/settings".into()];
        check(Settings { frozen: &[fixed], ..own }, &[]);
        let expected = [Difference::WritableFile { path: writable.clone() }];
        check(Settings { frozen: &[writable], ..own }, &expected);
    }

    #[cfg(feature = "fs")]
    #[test]
    fn a_client_that_waits_for_the_disk_needs_a_server_that_does() {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::create(dir.path()).unwrap();
        let storage = Storage::local(&dir.path().join("store")).unwrap();
        let policy = Policy::session(Path::new("/h/s/1")).build().unwrap();
        let (variables, session) = (Variables::default(), session());
        let fingerprint = |durability| {
            let settings = Settings {
                policy: &policy,
                network: &NetworkRules::default(),
                hidden: &[],
                frozen: &[],
                variables: VariablesKey::Values(&variables),
                selection: &VariableSelection::All,
                masks: &BTreeMap::new(),
                session: &session,
                storage: Some(&storage),
                durability,
                user: None,
                skill_keys: &[],
                ignore: None,
                retention: None,
                without_projection: false,
                for_files: false,
            };
            Fingerprint::new(&token, &settings)
        };
        let (disk, memory) = (fingerprint(Durability::Disk), fingerprint(Durability::Memory));
        assert_eq!(memory.differences(&disk, &policy), [Difference::Durability]);
        assert_eq!(disk.differences(&memory, &policy), []);
    }
}
