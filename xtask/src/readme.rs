//! Test of the README: its library example is the one that the doctests of agent-tools run.

use std::fs;
use std::path::Path;

/// Returns the Rust examples of a Markdown file.
fn rust_examples(markdown: &str) -> Vec<&str> {
    let blocks = markdown.split("\n```rust\n").skip(1);
    blocks.filter_map(|rest| Some(rest.split_once("\n```")?.0)).collect()
}

#[test]
fn the_library_example_of_the_readme_is_a_doctest() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |path: &str| fs::read_to_string(workspace.join(path)).unwrap();
    let (readme, tested) = (read("README.md"), read("crates/agent-tools/README.md"));
    let examples = rust_examples(&readme);
    assert!(!examples.is_empty(), "README.md has no example");
    assert!(
        examples.iter().all(|example| rust_examples(&tested).contains(example)),
        "copy the example of README.md to crates/agent-tools/README.md, which is tested"
    );
}
