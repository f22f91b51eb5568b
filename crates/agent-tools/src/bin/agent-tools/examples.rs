//! The examples in the help of subcommands whose own file has none. A test runs those that begin
//! with `$ `, from the first to the last.

use clap::Command;

/// The examples of each subcommand, by its name behind `agent-tools`, and of the command itself.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "$ agent-tools doctor",
            "$ agent-tools bash 'echo hello > greeting.txt; ls'",
            "agent-tools --store s3://bucket/prefix bash --session s1 --allow-host example.com ls",
            "agent-tools mcp --session s1",
        ],
    ),
    ("session", &["$ agent-tools session list", "$ agent-tools session show default"]),
    ("session list", &["$ agent-tools session list", "$ agent-tools --json session list"]),
    ("session show", &["$ agent-tools session show default --network"]),
    ("session sync", &["$ agent-tools session sync default"]),
    ("session close", &["$ agent-tools session close other"]),
    ("session history", &["$ agent-tools session history default greeting.txt"]),
    ("session restore", &["$ agent-tools session restore default greeting.txt --at 1"]),
    (
        "session undelete",
        &[
            "$ agent-tools bash 'rm greeting.txt'",
            "$ agent-tools session undelete default greeting.txt",
        ],
    ),
    ("session gc", &["$ agent-tools session gc default"]),
    (
        "session delete",
        &["$ agent-tools bash --session draft true", "$ agent-tools session delete draft --yes"],
    ),
    (
        "session pull",
        &["$ agent-tools session pull default user_local/sessions/default/greeting.txt"],
    ),
    ("skill", &["$ agent-tools skill publish greet", "$ agent-tools skill list"]),
    ("skill publish", &["$ agent-tools skill publish greet"]),
    ("skill list", &["$ agent-tools skill list"]),
    ("skill versions", &["$ agent-tools skill versions greet"]),
    ("skill show", &["$ agent-tools skill show greet@latest SKILL.md"]),
    ("skill diff", &["$ agent-tools skill diff greet 1 latest"]),
    ("skill rollback", &["$ agent-tools skill rollback greet 1"]),
    ("skill delete", &["$ agent-tools skill delete greet 2"]),
    ("skill tag", &["$ agent-tools skill tag greet stable 1"]),
    ("skill sign", &["agent-tools skill sign greet 1 manifest.json.minisig"]),
    ("skill lock", &["$ agent-tools skill lock greet@1"]),
    (
        "skill install",
        &["$ agent-tools skill install greet@1 project", "$ agent-tools skill install --locked"],
    ),
    (
        "variable",
        &[
            "$ printf %s secret | agent-tools variable set API_TOKEN --host api.example.com",
            "$ agent-tools variable list",
        ],
    ),
    ("variable list", &["$ agent-tools variable list"]),
    ("variable remove", &["$ agent-tools variable remove API_TOKEN"]),
    ("policy", &["$ agent-tools policy explain /etc/shadow", "$ agent-tools policy show"]),
    (
        "policy show",
        &[
            "$ agent-tools policy show > settings.json",
            "$ agent-tools policy show --allow-read /srv",
        ],
    ),
    ("policy check", &["$ agent-tools policy show > p.json; agent-tools policy check p.json"]),
    ("policy schema", &["$ agent-tools policy schema > schema.json"]),
    ("owners", &["$ agent-tools owners"]),
    ("doctor", &["$ agent-tools doctor", "$ agent-tools --json doctor --session s1"]),
    ("mcp", &["agent-tools mcp --session s1 --tools editFile,grep --max-timeout 600"]),
];

/// Adds the examples to subcommands that have none.
pub(crate) fn add(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (path, examples)| {
        let path: Vec<&str> = path.split_terminator(' ').collect();
        add_to(command, &path, examples)
    })
}

fn add_to(command: Command, path: &[&str], examples: &[&str]) -> Command {
    match path {
        [] if command.get_after_help().is_some() => command,
        [] => {
            let title = if examples.len() == 1 { "Example:" } else { "Examples:" };
            command.after_help(format!("{title}\n  {}", examples.join("\n  ")))
        }
        [name, rest @ ..] => command.mut_subcommand(name, |sub| add_to(sub, rest, examples)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn without_examples(command: &Command, path: &str, found: &mut Vec<String>) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            without_examples(sub, &path, found);
        }
        if command.get_after_help().is_none() {
            found.push(path.to_owned());
        }
    }

    #[test]
    fn every_subcommand_has_examples() {
        let mut found = Vec::new();
        without_examples(&add(crate::Cli::command()), "agent-tools", &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}
