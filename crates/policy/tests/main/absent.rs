//! Decisions about paths that do not exist yet.

use std::path::Path;

use policy::{Access, LaterFiles, MountOptions, Policy, Rule, SandboxRuntimeConfig};

use crate::model::Model;

#[test]
fn a_pattern_explains_what_happens_to_a_file_that_does_not_exist_yet() {
    let settings = r#"{
        "network": {"allowedDomains": [], "deniedDomains": []},
        "filesystem": {"denyRead": ["/w/*.pem"], "allowWrite": ["/w"], "denyWrite": []}
    }"#;
    let config = SandboxRuntimeConfig::from_json(settings).unwrap();
    let policy = Policy::from_config(config, Path::new("/home/ann")).unwrap();
    let tree = Model::default().file("/w/old.pem");
    let explain = |later, path: &str| {
        let options = MountOptions { later, ..MountOptions::default() };
        let plan = policy.mounts(&tree, &options).unwrap();
        policy.explain_mounted(&plan, &tree, Path::new(path), Access::Read)
    };
    let new = explain(LaterFiles::Covered, "/w/new.pem");
    assert!(new.allowed);
    assert_eq!(new.rule, Rule::NotYetHidden { entry: "/w/*.pem".to_owned() });
    let old = explain(LaterFiles::Covered, "/w/old.pem");
    assert!(!old.allowed);
    // No command creates the file there, so there is never anything to read.
    let denied = explain(LaterFiles::Denied, "/w/new.pem");
    assert_ne!(denied.rule, new.rule);
}
