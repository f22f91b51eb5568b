//! The parser of sandbox settings, and what follows from valid ones.

#![no_main]

use std::path::Path;

use policy::{Access, Policy, SandboxRuntimeConfig};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let config = match SandboxRuntimeConfig::from_json(text) {
        Ok(config) => config,
        Err(error) => {
            // An error has a place in the text, and repeats no long part of it.
            let location = error.location();
            assert!(location.line <= text.lines().count().max(1) + 1, "{error}");
            assert!(error.to_string().len() < 4_096, "{error}");
            return;
        }
    };
    let written = SandboxRuntimeConfig::from_json(&config.to_json());
    assert_eq!(written.as_ref(), Ok(&config), "the settings survive a round trip");
    let is_valid = config.validate().is_ok();
    let Ok(policy) = Policy::from_config(config, Path::new("/home/ann")) else { return };
    assert!(is_valid);
    for lint in policy.lint() {
        assert!(lint.path.find_in(text).width > 0 && !lint.remedy.is_empty());
    }
    for path in ["/", "/home/ann/.ssh", "/w/a/b", "/w/[a]"] {
        let hidden = !policy.explain(Path::new(path), Access::Read).allowed;
        let writable = policy.explain(Path::new(path), Access::Write).allowed;
        assert!(!(hidden && writable), "a hidden path is not writable: {path}");
    }
});
