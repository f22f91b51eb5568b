//! Commands in a session that another process serves with other settings of the mirror.

use super::Cli;
use crate::mcp::Server;

#[test]
fn settings_that_only_the_server_applies_are_named_in_the_result() {
    let cli = Cli::new();
    let mut server = Server::start_with(&cli, &["--retention", "2h", "mcp", "--session", "m"]);
    server.call("bash", serde_json::json!({ "command": "true" }));
    let warnings = |options: &[&str]| {
        let ran = cli.run(&[&["--json"], options, &["bash", "--session", "m", "true"]].concat());
        ran.ok().json()["warnings"].clone()
    };
    assert!(warnings(&[]).is_null());
    assert!(warnings(&["--retention", "120m"]).is_null(), "it is the same time");
    let options = ["--ignore", "+x", "--no-projection", "--retention", "1h"];
    let found = warnings(&options);
    for (warning, option) in
        found.as_array().unwrap().iter().zip([options[0], options[2], options[3]])
    {
        let warning = warning.as_str().unwrap();
        let pid = format!("process {}", server.child.id());
        assert!(warning.contains(option) && warning.contains(&pid), "{warning}");
    }
    assert_eq!(found.as_array().unwrap().len(), 3);
}
