//! Presets: the hosts that the tools of this host are configured with.
//!
//! This project names no registry of packages. So a preset asks the tools of the host, in the root
//! directory, where no project configures them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use policy::{Host, NetworkConfig, NetworkPolicy};

use super::rules::names_loopback;
use crate::host_lists;

/// Hosts that a kind of work usually needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkPreset {
    /// The indexes of `pip` and `uv`: those of their configuration, or the ones that pip has built
    /// in.
    Python,
    /// The registries of `npm config`.
    Node,
    /// The registries of cargo: those of its configuration, and those that it has used.
    Rust,
    /// The mirrors of APT.
    Debian,
    /// GitHub: its site, its API, and the hosts of its downloads.
    GitHub,
}

/// Error of a preset whose tools name no host, or one that no rule can allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the preset {preset} {problem}")]
#[non_exhaustive]
pub struct PresetError {
    /// The preset.
    pub preset: NetworkPreset,
    problem: String,
}

const GITHUB: [&str; 6] = [
    "github.com:443",
    "github.com:22",
    "api.github.com:443",
    "codeload.github.com:443",
    "raw.githubusercontent.com:443",
    "*.githubusercontent.com:443",
];
/// Prints the index that pip has built in, and the host of its files.
const BUILT_IN: &str = "from pip._internal.models.index import PyPI as index; \
                        print(index.url, 'https://' + index.file_storage_domain)";
/// Time for a tool to answer.
const PATIENCE: Duration = Duration::from_secs(30);

impl NetworkPreset {
    /// All presets, by their names in alphabetical order.
    pub const ALL: [Self; 5] = [Self::Debian, Self::GitHub, Self::Node, Self::Python, Self::Rust];

    /// Returns the name, such as `python`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::GitHub => "github",
            Self::Node => "node",
            Self::Python => "python",
            Self::Rust => "rust",
        }
    }

    /// Returns the patterns `HOST:PORT` of the hosts that the tools of this host are configured
    /// with, sorted. It reads their files and runs `pip` or `npm`, so it blocks for up to a second,
    /// or for 30 s each if they hang.
    ///
    /// # Errors
    /// Returns [`PresetError`] if a tool is absent, if its configuration names no host, or if it
    /// names one that no rule can allow: one of loopback, or a name without a dot.
    pub fn hosts(self) -> Result<Vec<String>, PresetError> {
        let (hosts, expected) = match self {
            Self::GitHub => return Ok(GITHUB.map(str::to_owned).to_vec()),
            Self::Python => (python(), "python3 has no pip, or pip names no index"),
            Self::Node => (node(), "there is no npm, or it names no registry"),
            Self::Rust => (rust(), "cargo has no configured registry, and has used none"),
            Self::Debian => (debian(Path::new("/etc/apt")), "/etc/apt names no mirror"),
        };
        let problem = match hosts.iter().find(|host| !can_be_allowed(host)) {
            Some(host) => unusable(host, &hosts),
            None if hosts.is_empty() => {
                format!(
                    "finds no host: {expected}; name the hosts with {}",
                    host_lists::allowed_place()
                )
            }
            None => return Ok(hosts.into_iter().collect()),
        };
        Err(PresetError { preset: self, problem })
    }
}

impl fmt::Display for NetworkPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for NetworkPreset {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == text);
        found.ok_or("the presets are debian, github, node, python and rust")
    }
}

/// Returns whether a rule for a host and a port opens it.
fn can_be_allowed(pattern: &str) -> bool {
    let mut network = NetworkConfig::default();
    network.allowed_domains.push(pattern.to_owned());
    NetworkPolicy::compile(&network).is_ok() && !names_loopback(pattern)
}

/// Describes a host that no rule can allow, and the options that open all hosts of the preset.
fn unusable(pattern: &str, hosts: &BTreeSet<String>) -> String {
    let problem = match names_loopback(pattern) {
        true => "which in a session is the session itself",
        false => "a name without a dot, which no rule can allow",
    };
    let (host, port) = pattern.rsplit_once(':').unwrap_or((pattern, "PORT"));
    let name = host.replace(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit(), "-");
    // An address would be a bad name.
    let name = match name.trim_matches('-') {
        "" => "server",
        name if names_loopback(pattern) && !name.starts_with("localhost") => "server",
        name => name,
    };
    let others: Vec<&str> =
        hosts.iter().map(String::as_str).filter(|host| can_be_allowed(host)).collect();
    let others = match others.as_slice() {
        [] => String::new(),
        others => format!(" --allow-host {}", others.join(",")),
    };
    format!(
        "names {pattern}, {problem}; instead of the preset, use --expose {name}={pattern}{others}, \
         and let the tool use {name}.host.internal:{port} in the session"
    )
}

fn python() -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    for name in ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"] {
        add_urls(&mut hosts, &std::env::var(name).unwrap_or_default());
    }
    let settings = output("python3", &["-m", "pip", "config", "list"]).unwrap_or_default();
    add_urls(&mut hosts, &pip_indexes(&settings));
    // Without an index of its own, pip uses the one that is built in.
    if !settings.lines().any(|line| pip_key(line) == Some("index-url")) {
        add_urls(&mut hosts, &output("python3", &["-c", BUILT_IN]).unwrap_or_default());
    }
    hosts
}

/// Returns the name of a setting of pip, without its section.
fn pip_key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    key.rsplit('.').next()
}

/// Returns the values of `pip config list` that name indexes.
fn pip_indexes(settings: &str) -> String {
    let is_index = |line: &&str| matches!(pip_key(line), Some("index-url" | "extra-index-url"));
    settings.lines().filter(is_index).collect::<Vec<_>>().join("\n").replace("\\n", " ")
}

fn node() -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    let settings = output("npm", &["config", "list", "--json"]).unwrap_or_default();
    let settings: serde_json::Value = serde_json::from_str(&settings).unwrap_or_default();
    for (key, value) in settings.as_object().into_iter().flatten() {
        if key == "registry" || key.ends_with(":registry") {
            add_urls(&mut hosts, value.as_str().unwrap_or_default());
        }
    }
    hosts
}

fn rust() -> BTreeSet<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    home.map_or_else(BTreeSet::new, |home| cargo(&home))
}

/// Returns the hosts of registries in cargo's home: of its settings, and of the copies of indexes.
/// Each copy has a file with the address of downloads, and a directory with the name of the host.
fn cargo(home: &Path) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    for name in ["config.toml", "config"] {
        let text = std::fs::read_to_string(home.join(name)).unwrap_or_default();
        for line in text.lines() {
            let key = line.split_once('=').map(|(key, _)| key.trim());
            if matches!(key, Some("registry" | "index")) {
                add_urls(&mut hosts, line);
            }
        }
    }
    let copies = std::fs::read_dir(home.join("registry/index")).into_iter().flatten().flatten();
    for copy in copies {
        let name = copy.file_name();
        let host = name.to_str().and_then(|name| name.rsplit_once('-')).map(|(host, _)| host);
        let host = host.and_then(|host| Host::parse(host).ok());
        hosts.extend(host.map(|host| host.with_port(443)));
        let text = std::fs::read_to_string(copy.path().join("config.json")).unwrap_or_default();
        add_urls(&mut hosts, &text);
    }
    hosts
}

/// Returns the hosts of APT's lists of sources, of both forms.
fn debian(dir: &Path) -> BTreeSet<String> {
    let listed = std::fs::read_dir(dir.join("sources.list.d")).into_iter().flatten().flatten();
    let files = listed.map(|entry| entry.path()).chain([dir.join("sources.list")]);
    let mut hosts = BTreeSet::new();
    for file in files {
        let is_source = file.extension().is_some_and(|end| end == "list" || end == "sources");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for line in text.lines().filter(|_| is_source) {
            let line = line.trim_start();
            if line.starts_with("deb ") || line.starts_with("deb-src ") || line.starts_with("URIs:")
            {
                add_urls(&mut hosts, line);
            }
        }
    }
    hosts
}

/// Adds the hosts of all URLs in a text, each with its port.
fn add_urls(hosts: &mut BTreeSet<String>, text: &str) {
    for (scheme, port) in [("https://", 443), ("http://", 80)] {
        for (at, _) in text.match_indices(scheme) {
            let rest = &text[at + scheme.len()..];
            let is_end = |c: char| c.is_whitespace() || "/?#\"',".contains(c);
            let authority = rest.split(is_end).next().unwrap_or_default();
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            if let Ok((host, own)) = Host::parse_with_port(host) {
                hosts.insert(host.with_port(own.unwrap_or(port)));
            }
        }
    }
}

/// Returns the standard output of a tool of the host, run where no project configures it.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let arguments = arguments.iter().map(OsString::from);
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdout = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if begun.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    reader.join().ok()?.ok().filter(|_| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(hosts: BTreeSet<String>, expected: &[&str]) {
        assert_eq!(hosts.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_settings_of_pip_name_indexes() {
        let settings = ":env:.cert='https://no.test/'\n\
                        global.index-url='https://user:pass@one.test/simple'\n\
                        install.extra-index-url='\\nhttp://two.test:8080/simple\\nhttps://[::1]/'";
        let mut hosts = BTreeSet::new();
        add_urls(&mut hosts, &pip_indexes(settings));
        check(hosts, &["[::1]:443", "one.test:443", "two.test:8080"]);
    }

    #[test]
    fn the_home_of_cargo_names_registries() {
        let home = tempfile::tempdir().unwrap();
        testkit::write_file(
            home.path(),
            "config.toml",
            "[source.a]\nregistry = \"sparse+https://one.test/index/\"\n\
             [http]\ncainfo = \"https://no.test\"\n\
             [registries.b]\nindex = \"https://two.test:444/git\"\n",
        );
        testkit::write_file(
            home.path(),
            "registry/index/three.test-0123456789abcdef/config.json",
            r#"{"dl":"https://four.test/crates","api":"https://three.test"}"#,
        );
        check(
            cargo(home.path()),
            &["four.test:443", "one.test:443", "three.test:443", "two.test:444"],
        );
    }

    #[test]
    fn the_lists_of_apt_name_mirrors() {
        let dir = tempfile::tempdir().unwrap();
        testkit::write_file(
            dir.path(),
            "sources.list",
            "# deb http://no.test/ x\ndeb [arch=amd64] http://one.test/debian stable main\n",
        );
        testkit::write_file(
            dir.path(),
            "sources.list.d/more.sources",
            "Types: deb\n# http://no.test\nURIs: https://two.test/debian http://three.test\n",
        );
        testkit::write_file(dir.path(), "sources.list.d/off.disabled", "URIs: http://no.test\n");
        check(debian(dir.path()), &["one.test:80", "three.test:80", "two.test:443"]);
    }

    #[test]
    fn a_preset_has_a_name_and_valid_hosts() {
        for preset in NetworkPreset::ALL {
            assert_eq!(preset.name().parse(), Ok(preset));
        }
        let hosts = NetworkPreset::GitHub.hosts().unwrap();
        let mut settings = policy::NetworkConfig::default();
        settings.allowed_domains = hosts;
        policy::NetworkPolicy::compile(&settings).unwrap();
    }
}
