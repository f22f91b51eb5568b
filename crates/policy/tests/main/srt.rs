//! Comparison with the real srt: it accepts and rejects the same settings as this crate.

use std::path::Path;
use std::process::Command;

use policy::Policy;
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
    let dir = tempfile::tempdir().unwrap();
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
    std::fs::write(dir.path().join("check.mjs"), SCRIPT).unwrap();
    let mut node = Command::new("node");
    node.arg(dir.path().join("check.mjs")).arg(&package);
    for (at, (config, _)) in checked.iter().enumerate() {
        let file = dir.path().join(format!("{at}.json"));
        std::fs::write(&file, config.to_json()).unwrap();
        node.arg(file);
    }
    let output = node.output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected: String = checked.iter().map(|(_, accepted)| format!("{accepted}\n")).collect();
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(&output.stderr));
}
