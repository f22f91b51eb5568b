//! Comparison with the real srt: it accepts and rejects the same settings as this crate.

pub(crate) mod generator;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use policy::{ParseError, Policy, SandboxRuntimeConfig};
use testkit::skipped;

use generator::Generator;

/// Prints for each line of a file, a settings file as a JSON text, whether srt's schema accepts it.
const SCRIPT: &str = r#"
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
const [dir, file] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(`${dir}/package.json`, "utf8"));
const entry = manifest.exports?.["."]?.import ?? manifest.exports?.["."] ?? manifest.main;
const { SandboxRuntimeConfigSchema } = await import(pathToFileURL(`${dir}/${entry}`).href);
const accepts = (text) => {
  try {
    return SandboxRuntimeConfigSchema.safeParse(JSON.parse(text)).success;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
};
const lines = readFileSync(file, "utf8").trimEnd().split("\n");
console.log(lines.map((line) => accepts(JSON.parse(line))).join("\n"));
"#;

/// Number of the random settings, and a variable with another number.
const GENERATED: usize = 60_000;
const COUNT_VARIABLE: &str = "POLICY_SETTINGS";
const SEED: u64 = 13;

#[test]
fn srt_and_this_crate_accept_and_reject_the_same_settings() {
    let Some(package) = std::env::var_os("SRT_PACKAGE_DIR") else {
        return skipped("settings checked by the real srt", "`cargo xtask peers` installs it");
    };
    let (session, home) = (Path::new("/srv/s1"), Path::new("/home/ann"));
    let mut checked = Vec::new();
    for builder in [Policy::reference, Policy::session, Policy::closed] {
        let policy = builder(session)
            .home(home)
            .deny_write(Path::new("/srv/s1/x"))
            .allow_git_config()
            .build()
            .unwrap();
        checked.push((policy.config().clone(), true));
        let mut invalid = policy.config().clone();
        invalid.network.allowed_domains.push("*.com".to_owned());
        assert!(invalid.validate().is_err());
        checked.push((invalid, false));
    }
    let texts: Vec<String> = checked.iter().map(|(config, _)| config.to_json()).collect();
    let accepted = checked.iter().map(|(_, accepted)| *accepted).collect::<Vec<_>>();
    assert_eq!(verdicts_of_srt(Path::new(&package), &texts), accepted);
}

/// Additions to minimal settings: a section, an entry, and whether srt accepts it.
const ENTRIES: &[(&str, &str, bool)] = &[
    ("filesystem", r#""allowRead": [{"path": "/a", "literal": true}]"#, true),
    ("filesystem", r#""allowRead": ["/a[1]", {"path": "/a[1]/", "literal": true}]"#, true),
    ("filesystem", r#""allowRead": [{"path": "/a", "literal": false}]"#, false),
    ("filesystem", r#""allowRead": [{"path": "/a"}]"#, false),
    ("filesystem", r#""allowRead": [{"literal": true}]"#, false),
    ("filesystem", r#""allowRead": [{"path": "", "literal": true}]"#, false),
    ("filesystem", r#""allowRead": [{"path": "/a", "literal": true, "x": 1}]"#, false),
    ("filesystem", r#""allowRead": [1]"#, false),
    ("network", r#""allowPlaintextHeaderSet": true"#, true),
    ("network", r#""allowPlaintextHeaderSet": 1"#, false),
    ("network", r#""stripResponseHeaders": ["set-cookie"]"#, true),
    ("network", r#""stripResponseHeaders": []"#, true),
    ("network", r#""stripResponseHeaders": [""]"#, false),
    ("network", r#""refuseOpaqueTunnels": true"#, true),
    ("network", r#""requireHostMatch": false"#, true),
    ("network", r#""requireHostMatch": null"#, false),
    ("network", r#""ambiguousRequestTarget": "refuse""#, true),
    ("network", r#""ambiguousRequestTarget": "asSpelled""#, true),
    ("network", r#""ambiguousRequestTarget": "normalize""#, true),
    ("network", r#""ambiguousRequestTarget": "Refuse""#, false),
    ("network", r#""tlsTerminate": {"maxTunnels": 1, "handshakeTimeoutMs": 100}"#, true),
    ("network", r#""tlsTerminate": {"maxTunnels": 65536, "handshakeTimeoutMs": 600000}"#, true),
    ("network", r#""tlsTerminate": {"maxTunnels": 0}"#, false),
    ("network", r#""tlsTerminate": {"maxTunnels": 65537}"#, false),
    ("network", r#""tlsTerminate": {"maxTunnels": 1.5}"#, false),
    ("network", r#""tlsTerminate": {"handshakeTimeoutMs": 99}"#, false),
    ("network", r#""tlsTerminate": {"handshakeTimeoutMs": 600001}"#, false),
    ("", r#""allowNestedUserNamespaces": true"#, true),
    ("", r#""allowNestedUserNamespaces": "yes""#, false),
    ("", r#""windows": {"backend": "mxc"}"#, true),
    ("", r#""windows": {"backend": "srt-win"}"#, true),
    ("", r#""windows": {"backend": "wsl"}"#, false),
];

fn with_entry(section: &str, entry: &str) -> String {
    let in_section = |name| if section == name { format!(", {entry}") } else { String::new() };
    let (network, filesystem) = (in_section("network"), in_section("filesystem"));
    let top = if section.is_empty() { format!(", {entry}") } else { String::new() };
    format!(
        r#"{{"network": {{"allowedDomains": [], "deniedDomains": []{network}}},
             "filesystem": {{"denyRead": [], "allowWrite": [], "denyWrite": []{filesystem}}}
             {top}}}"#
    )
}

#[test]
fn entries_of_newer_versions_are_judged_like_srt_judges_them() {
    let texts: Vec<String> =
        ENTRIES.iter().map(|(section, entry, _)| with_entry(section, entry)).collect();
    let expected: Vec<bool> = ENTRIES.iter().map(|(.., accepted)| *accepted).collect();
    for (text, expected) in texts.iter().zip(&expected) {
        assert_eq!(is_valid(text), *expected, "{text}");
    }
    let Some(package) = std::env::var_os("SRT_PACKAGE_DIR") else {
        return skipped("entries judged by the real srt", "`cargo xtask peers` installs it");
    };
    let found = verdicts_of_srt(Path::new(&package), &texts);
    for ((text, expected), found) in texts.iter().zip(&expected).zip(found) {
        assert_eq!(found, *expected, "{text}");
    }
}

/// Reasons for which this crate rejects settings that srt accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stricter {
    /// srt ignores a key that it does not know, so a mistyped rule does nothing.
    UnknownKey,
    /// Of a key that is given twice, srt reads the last one only.
    RepeatedKey,
    /// A text with half of a surrogate pair is no Unicode, so no path or host can be meant.
    Surrogate,
}

/// Returns the reason for a rejection, if it is one of those.
fn stricter(text: &str) -> Option<Stricter> {
    match SandboxRuntimeConfig::from_json(text) {
        Err(ParseError::UnknownKey { .. }) => Some(Stricter::UnknownKey),
        Err(ParseError::Value { problem, .. }) if problem == "is given twice" => {
            Some(Stricter::RepeatedKey)
        }
        Err(ParseError::Syntax { .. }) if text.contains("\\ud800") => Some(Stricter::Surrogate),
        _ => None,
    }
}

/// Returns whether this build can judge the settings. Without the feature `regexp`, it rejects
/// every regular expression.
fn is_judged(text: &str) -> bool {
    cfg!(feature = "regexp") || !text.contains("\"extract\"")
}

fn is_valid(text: &str) -> bool {
    SandboxRuntimeConfig::from_json(text).is_ok_and(|config| config.validate().is_ok())
}

/// Verdicts of srt on settings: a line for each, with its verdict and the settings.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/main/srt/verdicts.jsonl");

/// `UPDATE_GOLDEN=1` asks srt again.
#[test]
fn recorded_verdicts_of_srt_hold() {
    let package = std::env::var_os("SRT_PACKAGE_DIR");
    if let Some(package) = package.filter(|_| std::env::var_os("UPDATE_GOLDEN").is_some()) {
        let mut generator = Generator::new(SEED + 1);
        let texts: Vec<String> = (0..400).map(|_| generator.settings()).collect();
        let verdicts = verdicts_of_srt(Path::new(&package), &texts);
        let lines = texts.iter().zip(verdicts).map(|(text, accepted)| {
            format!("{}\n", serde_json::to_string(&(accepted, text)).unwrap())
        });
        std::fs::write(RECORDED, lines.collect::<String>()).unwrap();
    }
    let recorded = std::fs::read_to_string(RECORDED).unwrap();
    let mut differing = Vec::new();
    for line in recorded.lines() {
        let (accepted, text): (bool, String) = serde_json::from_str(line).unwrap();
        if is_judged(&text)
            && is_valid(&text) != accepted
            && !(accepted && stricter(&text).is_some())
        {
            differing.push(text);
        }
    }
    assert_eq!(differing, [""; 0]);
    assert_eq!(recorded.lines().count(), 400);
}

#[test]
fn random_settings_are_judged_like_srt_judges_them() {
    let Some(package) = std::env::var_os("SRT_PACKAGE_DIR") else {
        return skipped(
            "random settings judged by the real srt",
            "`cargo xtask peers` installs it",
        );
    };
    let mut generator = Generator::new(SEED);
    let count = std::env::var(COUNT_VARIABLE).map_or(GENERATED, |count| count.parse().unwrap());
    let texts: Vec<String> =
        (0..count).map(|_| generator.settings()).filter(|text| is_judged(text)).collect();
    let (mut accepted, mut reasons) = (0, BTreeMap::new());
    let mut differing = Vec::new();
    for (text, found) in texts.iter().zip(verdicts_of_srt(Path::new(&package), &texts)) {
        accepted += usize::from(found);
        match stricter(text) {
            Some(reason) if found => *reasons.entry(reason).or_insert(0) += 1,
            _ if is_valid(text) != found => differing.push((text, found)),
            _ => {}
        }
    }
    println!("srt accepts {accepted} of {count}; this crate is stricter: {reasons:?}");
    for (text, found) in differing.iter().take(20) {
        let own = SandboxRuntimeConfig::from_json(text)
            .map_err(|error| error.to_string())
            .and_then(|config| config.validate().map_err(|error| error.to_string()));
        println!("srt: {found}, this crate: {own:?}\n{text}");
    }
    assert!(differing.is_empty(), "{} verdicts differ", differing.len());
    assert!(accepted > count / 10 && accepted < count * 9 / 10, "{accepted}");
    assert_eq!(reasons.len(), 3, "{reasons:?}");
}

/// Returns whether srt's schema accepts each of the settings.
fn verdicts_of_srt(package: &Path, settings: &[String]) -> Vec<bool> {
    let dir = tempfile::tempdir().unwrap();
    let (script, file) = (dir.path().join("check.mjs"), dir.path().join("settings.jsonl"));
    std::fs::write(&script, SCRIPT).unwrap();
    let lines: Vec<String> =
        settings.iter().map(|text| serde_json::to_string(text).unwrap()).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    // srt needs a newer node than distributions have.
    let mut node = Command::new(std::env::var_os("NODE22").unwrap_or_else(|| "node".into()));
    node.arg(script).arg(package).arg(file);
    let output = node.output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Vec<bool> = found.lines().map(|line| line == "true").collect();
    assert_eq!(found.len(), settings.len(), "{}", String::from_utf8_lossy(&output.stderr));
    found
}
