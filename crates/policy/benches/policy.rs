//! Parsing, compiling and explaining large settings.

use std::collections::HashMap;
use std::ffi::OsString;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use policy::{Access, Host, MountOptions, NodeKind, Policy, SandboxRuntimeConfig, Tree};

/// Returns settings with `count` rules in the lists of paths and of domains. With patterns, half of
/// the paths are patterns.
fn settings(count: usize, patterns: bool) -> String {
    let paths = |prefix: &str, count: usize| {
        let entries = (0..count).map(|at| match at % 2 {
            0 if patterns => format!("\"/w/{prefix}{at}/*.{at}\""),
            _ => format!("\"/w/{prefix}{at}/sub\""),
        });
        entries.collect::<Vec<_>>().join(",")
    };
    let domains: Vec<String> =
        (0..count / 4).map(|at| format!("\"*.d{at}.example:443\"")).collect();
    format!(
        r#"{{"network":{{"allowedDomains":[{}],"deniedDomains":[]}},
            "filesystem":{{"denyRead":["/home",{}],"allowWrite":["/w",{}],"denyWrite":[{}]}}}}"#,
        domains.join(","),
        paths("r", count / 4),
        paths("a", count / 4),
        paths("d", count / 4),
    )
}

fn policy(text: &str) -> Policy {
    let config = SandboxRuntimeConfig::from_json(text).unwrap();
    Policy::from_config(config, Path::new("/home/ann")).unwrap()
}

fn bench(criterion: &mut Criterion) {
    let text = settings(200, true);
    criterion.bench_function("parse and validate 200 rules", |bencher| {
        bencher.iter(|| {
            let config = SandboxRuntimeConfig::from_json(black_box(&text)).unwrap();
            config.validate().unwrap();
            config
        });
    });
    for (name, text) in [("paths", settings(200, false)), ("paths and patterns", text)] {
        let (rules, tree) = (policy(&text), Directories::of(&text));
        criterion.bench_function(&format!("compile 200 rules, {name}"), |bencher| {
            bencher.iter(|| rules.mounts(&tree, &MountOptions::default()).unwrap());
        });
    }
    let (rules, tree) = (policy(&denials(200)), Directories::of(&denials(200)));
    criterion.bench_function("compile 200 rules, one writable directory", |bencher| {
        bencher.iter(|| rules.mounts(&tree, &MountOptions::default()).unwrap());
    });
    let (rules, tree) = (policy(PROJECT), project());
    criterion.bench_function("compile a project of 1,000 directories", |bencher| {
        bencher.iter(|| rules.mounts(&tree, &MountOptions::default()).unwrap());
    });
    for count in [1_000, 10_000] {
        let rules = policy(&patterns(count));
        for (name, access) in [("read", Access::Read), ("write", Access::Write)] {
            let path = Path::new("/w/project/src/deep/module/file.rs");
            criterion.bench_function(&format!("explain {name} with {count} patterns"), |bencher| {
                bencher.iter(|| rules.explain(black_box(path), access));
            });
        }
        let host = Host::parse("api.d7.example").unwrap();
        criterion.bench_function(&format!("decide a host with {count} patterns"), |bencher| {
            bencher.iter(|| rules.decide(black_box(&host), 443));
        });
    }
}

/// Returns settings with one writable directory, in which the others are hidden or read-only.
fn denials(count: usize) -> String {
    let list = |prefix: &str| {
        let entries = (0..count / 2).map(|at| format!("\"/w/{prefix}{at}/sub\""));
        entries.collect::<Vec<_>>().join(",")
    };
    format!(
        r#"{{"network":{{"allowedDomains":[],"deniedDomains":[]}},
            "filesystem":{{"denyRead":[{}],"allowWrite":["/w"],"denyWrite":[{}]}}}}"#,
        list("r"),
        list("d"),
    )
}

/// Returns settings of which each list of paths has a quarter of the patterns.
fn patterns(count: usize) -> String {
    let list = |prefix: &str| {
        let entries = (0..count / 4).map(|at| format!("\"/w/*/{prefix}{at}/**/x{at}*.log\""));
        entries.collect::<Vec<_>>().join(",")
    };
    let domains: Vec<String> = (0..count).map(|at| format!("\"*.d{at}.example\"")).collect();
    format!(
        r#"{{"network":{{"allowedDomains":[{}],"deniedDomains":[]}},
            "filesystem":{{"denyRead":[{}],"allowRead":[{}],"allowWrite":["/w",{}],
                           "denyWrite":[{}]}}}}"#,
        domains.join(","),
        list("r"),
        list("o"),
        list("a"),
        list("d"),
    )
}

/// Settings of a session that works on a project of the user.
const PROJECT: &str = r#"{
    "network": {"allowedDomains": ["*.github.com", "crates.io"], "deniedDomains": []},
    "filesystem": {
        "denyRead": ["~", "/etc/shadow", "/w/project/.env", "/w/project/config/*.pem"],
        "allowRead": ["~/.cargo", "~/.rustup", "~/.gitconfig"],
        "allowWrite": ["/w/project", "~/.cargo/registry", "/var/cache/build"],
        "denyWrite": ["/w/project/LICENSE", "/w/project/.github", "/w/project/config/*.lock"]
    }
}"#;

/// Returns a repository with 1,000 directories of sources, and what is around it.
fn project() -> Directories {
    let mut found = Directories::default();
    let dirs = [
        "/home/ann/.cargo/registry",
        "/home/ann/.rustup",
        "/home/ann/.ssh",
        "/var/cache/build",
        "/w/project/.git/objects/pack",
        "/w/project/.git/refs/heads",
        "/w/project/.git/hooks",
        "/w/project/.github",
        "/w/project/config",
        "/w/project/.vscode",
    ];
    for dir in dirs {
        found.add(Path::new(dir));
    }
    for at in 0..256 {
        found.add(Path::new(&format!("/w/project/.git/objects/{at:02x}")));
    }
    for at in 0..900 {
        found.add(Path::new(&format!("/w/project/src/module{}/part{at}", at % 30)));
    }
    found
}

/// Directories in memory, with those that the settings name.
#[derive(Debug, Default)]
struct Directories(HashMap<OsString, Vec<(OsString, NodeKind)>>);

impl Directories {
    fn of(text: &str) -> Self {
        let mut found = Self::default();
        for path in text.split('"').filter(|part| part.starts_with('/') && !part.contains('*')) {
            found.add(Path::new(path));
        }
        found
    }

    fn add(&mut self, path: &Path) {
        if self.0.contains_key(path.as_os_str()) {
            return;
        }
        self.0.insert(path.into(), Vec::new());
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
            self.add(parent);
            let entry = (name.to_owned(), NodeKind::Directory);
            self.0.entry(parent.into()).or_default().push(entry);
        }
    }
}

impl Tree for Directories {
    fn kind(&self, path: &Path) -> io::Result<Option<NodeKind>> {
        Ok(self.0.contains_key(path.as_os_str()).then_some(NodeKind::Directory))
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.read_dir(path).map(|_| path.to_owned())
    }

    fn read_link(&self, _path: &Path) -> io::Result<PathBuf> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<(OsString, NodeKind)>> {
        self.0.get(path.as_os_str()).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read_start(&self, _path: &Path, _max: usize) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
