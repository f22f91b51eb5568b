//! The pictures in `docs/screens`, drawn from the real output of the command. `UPDATE_GOLDEN=1`
//! draws them again.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Stdio;

use crate::cli::Cli;

/// The width of a picture in characters, and the size of a character in pixels.
const COLUMNS: usize = 116;
const WIDTH: usize = 8;
const HEIGHT: usize = 18;

fn output(cli: &Cli, args: &[&str]) -> String {
    let mut command = cli.command(args);
    command.env_remove("AGENT_TOOLS_HOME").stdin(Stdio::null());
    let home = cli.dir().canonicalize().unwrap();
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    text.replace(home.to_str().unwrap(), "/home/ann")
}

/// Returns the lines of a picture, none longer than its width.
fn lines(command: &str, text: &str) -> Vec<String> {
    let mut lines = vec![format!("$ {command}")];
    for line in text.lines() {
        let mut rest = line.to_owned();
        while rest.chars().count() > COLUMNS {
            let end = rest.char_indices().nth(COLUMNS).map_or(rest.len(), |(at, _)| at);
            let at = rest[..end].rfind(' ').filter(|at| *at > 20).unwrap_or(end);
            lines.push(rest[..at].to_owned());
            rest = format!("    {}", rest[at..].trim_start());
        }
        lines.push(rest);
    }
    lines
}

fn drawn(command: &str, text: &str) -> String {
    let lines = lines(command, text);
    let (width, height) = ((COLUMNS + 4) * WIDTH, (lines.len() + 2) * HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" font-size=\"13.3\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\">\n\
         <title>The output of {command}</title>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"10\" fill=\"#0f172a\"/>\n"
    );
    for (index, line) in lines.iter().enumerate() {
        let colour = if index == 0 { "#93c5fd" } else { "#e2e8f0" };
        let line = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let (x, y) = (2 * WIDTH, (index + 2) * HEIGHT - 4);
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\" xml:space=\"preserve\">{line}</text>"
        );
    }
    svg + "</svg>\n"
}

/// Returns the first words of the lines, which are the same on every machine.
fn labels(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

/// Checks the picture of a command. `shown` chooses the part of its output that is drawn.
#[track_caller]
fn check(name: &str, command: &str, shown: &str, matches: impl Fn(&str) -> bool) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/screens").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, drawn(command, shown)).unwrap();
    }
    let picture = std::fs::read_to_string(&file).unwrap();
    let hint = "UPDATE_GOLDEN=1 draws the picture again";
    assert!(matches(&picture), "{name} is not the output of {command}; {hint}");
}

#[test]
fn the_pictures_of_the_documentation_show_the_real_output() {
    let cli = Cli::new();
    let help = output(&cli, &["-h"]);
    let help = help.split("\nGlobal options:").next().unwrap();
    check("help.svg", "agent-tools -h", help, |picture| picture == drawn("agent-tools -h", help));

    // The machine decides about the layers and the runtimes, and not about the other lines.
    let doctor = output(&cli, &["doctor"]);
    let is_shown = |line: &&str| !line.contains("is unreachable");
    let doctor: Vec<&str> = doctor.lines().filter(is_shown).collect();
    let (before, after) = (
        doctor.iter().take_while(|line| **line != "runtimes").copied(),
        doctor.iter().skip_while(|line| !line.starts_with("home ")).copied(),
    );
    let fixed: Vec<&str> = before.chain(after).collect();
    check("doctor.svg", "agent-tools doctor", &doctor.join("\n"), |picture| {
        labels(&fixed.join("\n")).iter().all(|label| picture.contains(label))
    });

    let run = |session: &str, user: &str, command: &str| {
        output(&cli, &["--json", "bash", "--session", session, "--user", user, command])
    };
    run("report-2026", "ann", "echo draft > report.md");
    run("invoices", "bob", "seq 1 9999 > invoices.csv");
    // A terminal gets the long list without the option.
    let listed = output(&cli, &["session", "list", "--long"]);
    check("session-list.svg", "agent-tools session list", &listed, |picture| {
        let titles = listed.lines().next().unwrap();
        picture.contains(titles) && labels(&listed).iter().all(|label| picture.contains(label))
    });
}
