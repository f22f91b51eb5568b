//! Files that this crate copies from other crates, so that its package is complete.

#[test]
fn the_path_patterns_of_init_are_those_of_the_policy_crate() {
    let original = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy/src/glob.rs");
    let original = std::fs::read_to_string(original).unwrap();
    assert!(
        original == include_str!("../../init/glob.rs"),
        "copy crates/policy/src/glob.rs to crates/sandbox-core/init/glob.rs"
    );
}
