//! Decisions about paths that may lead elsewhere than their components say.

use std::path::Path;

use policy::{Access, MountOptions, Policy, Rule, SandboxRuntimeConfig};

use crate::model::Model;

const UNRESOLVED: [&str; 9] =
    ["", ".", "x", "~/x", "/s/..", "/s/../etc/passwd", "/s/x/../../r/f", "/s//..//r", "../s"];

#[test]
fn a_path_that_may_lead_elsewhere_is_denied_everywhere() {
    let mut disabled = SandboxRuntimeConfig::default();
    disabled.filesystem.disabled = Some(true);
    let session = Path::new("/s");
    let tree = Model::default().file("/s/f").file("/r/f").file("/etc/passwd");
    for builder in [
        Policy::session(session),
        Policy::session(session).allow_write(Path::new("/")),
        Policy::custom(session, disabled),
    ] {
        let policy = builder.build().unwrap();
        let plan = policy.mounts(&tree, &MountOptions::default()).unwrap();
        let list = plan.allow_list(&tree, &[]).unwrap();
        for path in UNRESOLVED.map(Path::new) {
            for access in [Access::Read, Access::Write] {
                let verdict = policy.explain(path, access);
                assert_eq!((verdict.allowed, verdict.rule), (false, Rule::Unresolved), "{path:?}");
                assert_eq!(verdict.remedy, None);
                assert!(!plan.allows(path, access) && !plan.permits(path, access), "{path:?}");
                assert!(!list.allows(path, access), "{path:?}");
                // The tree of the host tells where `..` leads, but not where a path begins.
                let mounted = policy.explain_mounted(&plan, &tree, path, access);
                let is_absolute = path.is_absolute();
                assert_eq!(mounted.rule != Rule::Unresolved, is_absolute, "{path:?}");
                assert!(is_absolute || !mounted.allowed, "{path:?}");
            }
            assert!(plan.creation_rules.denies(path), "{path:?}");
            assert!(!policy.shows(path), "{path:?}");
        }
        for path in ["/s", "/s/f", "/s/..f", "/s/./f", "/s//f/"].map(Path::new) {
            assert!(policy.explain(path, Access::Write).allowed, "{path:?}");
            assert!(plan.allows(path, Access::Write), "{path:?}");
        }
    }
}
