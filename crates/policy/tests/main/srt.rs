//! The real srt judges what this crate writes, and this crate what srt refuses.

use std::path::Path;
use std::process::Command;

use policy::Policy;
use testkit::skipped;

/// Says for each settings file whether srt's schema takes it.
const SCRIPT: &str = r#"
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
const [dir, ...files] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(`${dir}/package.json`, "utf8"));
const entry = manifest.exports?.["."]?.import ?? manifest.exports?.["."] ?? manifest.main;
const { SandboxRuntimeConfigSchema } = await import(pathToFileURL(`${dir}/${entry}`).href);
for (const file of files) console.log(SandboxRuntimeConfigSchema.safeParse(JSON.parse(readFileSync(file, "utf8"))).success);
"#;

#[test]
fn srt_accepts_every_preset_and_refuses_what_we_refuse() {
    let Some(package) = std::env::var_os("SRT_PACKAGE_DIR") else {
        return skipped("settings judged by the real srt", "`cargo xtask peers` installs it");
    };
    let dir = tempfile::tempdir().unwrap();
    let (session, home) = (Path::new("/srv/s1"), Path::new("/home/ann"));
    let mut judged = Vec::new();
    for builder in [Policy::reference, Policy::session, Policy::closed] {
        let policy = builder(session)
            .home(home)
            .deny_write(Path::new("/srv/s1/x"))
            .allow_git_config()
            .build()
            .unwrap();
        judged.push((policy.config().clone(), true));
        let mut refused = policy.config().clone();
        refused.network.allowed_domains.push("*.com".to_owned());
        assert!(refused.validate().is_err());
        judged.push((refused, false));
    }
    std::fs::write(dir.path().join("judge.mjs"), SCRIPT).unwrap();
    let mut node = Command::new("node");
    node.arg(dir.path().join("judge.mjs")).arg(&package);
    for (at, (config, _)) in judged.iter().enumerate() {
        let file = dir.path().join(format!("{at}.json"));
        std::fs::write(&file, config.to_json()).unwrap();
        node.arg(file);
    }
    let output = node.output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected: String = judged.iter().map(|(_, accepted)| format!("{accepted}\n")).collect();
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(&output.stderr));
}
