//! Comparison with the real srt: it accepts and rejects the same settings as this crate.

use std::path::Path;
use std::process::Command;

use policy::{Policy, SandboxRuntimeConfig};
use testkit::skipped;

/// Prints for each settings file whether srt's schema accepts it.
const SCRIPT: &str = r#"
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
const [dir, ...files] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(`${dir}/package.json`, "utf8"));
const entry = manifest.exports?.["."]?.import ?? manifest.exports?.["."] ?? manifest.main;
const { SandboxRuntimeConfigSchema } = await import(pathToFileURL(`${dir}/${entry}`).href);
for (const file of files) {
  const settings = JSON.parse(readFileSync(file, "utf8"));
  console.log(SandboxRuntimeConfigSchema.safeParse(settings).success);
}
"#;

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
    let is_valid = |text: &String| {
        SandboxRuntimeConfig::from_json(text).is_ok_and(|config| config.validate().is_ok())
    };
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

/// Returns whether srt's schema accepts each of the settings.
fn verdicts_of_srt(package: &Path, settings: &[String]) -> Vec<bool> {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("check.mjs");
    std::fs::write(&script, SCRIPT).unwrap();
    // srt needs a newer node than distributions have.
    let mut node = Command::new(std::env::var_os("NODE22").unwrap_or_else(|| "node".into()));
    node.arg(script).arg(package);
    for (at, text) in settings.iter().enumerate() {
        let file = dir.path().join(format!("{at}.json"));
        std::fs::write(&file, text).unwrap();
        node.arg(file);
    }
    let output = node.output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Vec<bool> = found.lines().map(|line| line == "true").collect();
    assert_eq!(found.len(), settings.len(), "{}", String::from_utf8_lossy(&output.stderr));
    found
}
