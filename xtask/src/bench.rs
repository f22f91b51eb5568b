//! `cargo xtask bench`: runs the side-by-side benchmarks and writes their tables into
//! `docs/performance.md`, and a summary into README.md.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::peers;

/// A benchmark that prints a table, and the name of its place in `docs/performance.md`.
struct Table {
    place: &'static str,
    package: &'static str,
    features: &'static [&'static str],
    bench: &'static str,
}

const TABLES: [Table; 11] = [
    Table {
        place: "commands",
        package: "sandbox-core",
        features: &["--features", "native"],
        bench: "side_by_side",
    },
    Table { place: "transfers", package: "artifact-sync", features: &[], bench: "transfer" },
    Table {
        place: "durability",
        package: "artifact-sync",
        features: &["--features", "fs"],
        bench: "durability",
    },
    Table { place: "latency", package: "artifact-sync", features: &[], bench: "latency" },
    Table {
        place: "footprint",
        package: "artifact-sync",
        features: &["--features", "fs"],
        bench: "footprint",
    },
    Table { place: "scans", package: "artifact-sync", features: &[], bench: "scans" },
    Table { place: "calls", package: "agent-tools", features: &[], bench: "calls" },
    Table { place: "streams", package: "agent-tools", features: &[], bench: "streams" },
    Table { place: "network", package: "egress", features: &[], bench: "side_by_side" },
    Table { place: "tls", package: "egress", features: &[], bench: "terminated" },
    Table { place: "sessions", package: "agent-tools", features: &[], bench: "network" },
];

/// A row of the summary, from a row of a table.
struct SummaryRow {
    place: &'static str,
    /// First cell of the table's row.
    row: &'static str,
    label: &'static str,
    compared_with: &'static str,
}

const SUMMARY: [SummaryRow; 5] = [
    SummaryRow {
        place: "commands",
        row: "session, at once after another command",
        label: "`bash -c true` in a session, at once after another command",
        compared_with: "bare spawn",
    },
    SummaryRow {
        place: "commands",
        row: "session after a pause",
        label: "`bash -c true` in a session, after a pause",
        compared_with: "bare spawn",
    },
    SummaryRow {
        place: "commands",
        row: "opening and closing a session",
        label: "opening and closing a session",
        compared_with: "bare spawn",
    },
    SummaryRow {
        place: "scans",
        row: "a call that finds nothing, 10,000 files ÷ an empty directory",
        label: "a call that finds no change, 10,000 files",
        compared_with: "an empty directory",
    },
    SummaryRow {
        place: "transfers",
        row: "restoring 1,000 files of 4 KB, 20 ms a call ÷ fetching one after another",
        label: "restoring 1,000 files of 4 KB, 20 ms a request",
        compared_with: "one after another",
    },
];

const README: &str = "README.md";
const PERFORMANCE: &str = "docs/performance.md";
const END: &str = "<!-- end of what was measured -->";

pub(crate) fn run(workspace: &Path) -> ExitCode {
    match try_run(workspace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(workspace: &Path) -> io::Result<()> {
    // The places are checked before the benchmarks run for minutes.
    for table in &TABLES {
        replaced(&workspace.join(PERFORMANCE), table.place, "")?;
    }
    replaced(&workspace.join(README), "summary", "")?;
    let mut build = cargo(workspace);
    build.args(["build", "--locked", "--release", "--package", "agent-tools"]);
    if !build.status()?.success() {
        return Err(io::Error::other("agent-tools does not build"));
    }
    let mut tables = Vec::new();
    for table in &TABLES {
        let rows = measure(workspace, table)?;
        print!("{rows}");
        write(&workspace.join(PERFORMANCE), table.place, &rows)?;
        tables.push((table.place, rows));
    }
    let summary = summary(&tables).map_err(io::Error::other)?;
    print!("{summary}");
    write(&workspace.join(README), "summary", &summary)
}

fn cargo(workspace: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace);
    cargo
}

/// Runs a benchmark and returns the table that it prints.
fn measure(workspace: &Path, table: &Table) -> io::Result<String> {
    let mut bench = cargo(workspace);
    bench
        .args(["bench", "--locked", "--package", table.package])
        .args(table.features)
        .args(["--bench", table.bench])
        .envs(peers::variables(workspace))
        .env("AGENT_TOOLS_PROGRAM", peers::target(workspace).join("release/agent-tools"))
        .stderr(Stdio::inherit());
    let output = bench.output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("the benchmark {} failed", table.bench)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Writes a table to its place in a file.
fn write(file: &Path, place: &str, table: &str) -> io::Result<()> {
    fs::write(file, replaced(file, place, table)?).map_err(|error| of_file(file, &error))
}

/// Returns the content of a file with a table at its place.
fn replaced(file: &Path, place: &str, table: &str) -> io::Result<String> {
    let text = fs::read_to_string(file).map_err(|error| of_file(file, &error))?;
    with_table(&text, place, table).ok_or_else(|| {
        io::Error::other(format!("{} has no place for the table {place:?}", file.display()))
    })
}

fn of_file(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

/// Returns the text with a table between the comments that mark its place.
fn with_table(text: &str, place: &str, table: &str) -> Option<String> {
    let begin = format!("<!-- {place}, measured by `cargo xtask bench` -->\n");
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n{table}\n{END}{after}"))
}

/// Returns the table of the README, from the tables of all places. The error names a missing row.
fn summary(tables: &[(&str, String)]) -> Result<String, String> {
    let mut summary = "| what | time | compared with | ratio |\n|---|---|---|---|\n".to_owned();
    for SummaryRow { place, row, label, compared_with } in SUMMARY {
        let table = tables.iter().find(|(name, _)| *name == place).map(|(_, table)| table.as_str());
        let cells = table.and_then(|table| cells(table, row));
        let cells = cells.ok_or_else(|| format!("the table {place:?} has no row {row:?}"))?;
        let time = cells.get(1).copied().unwrap_or_default();
        // The last column is the ratio, with its quartiles if the table has them.
        let ratio = cells.last().and_then(|cell| cell.split(' ').next()).unwrap_or_default();
        summary += &format!("| {label} | {time} | {compared_with} | {ratio} |\n");
    }
    Ok(summary)
}

/// Returns the cells of the row with this first cell.
fn cells<'a>(table: &'a str, row: &str) -> Option<Vec<&'a str>> {
    let rows = table
        .lines()
        .map(|line| line.trim().trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    rows.into_iter().find(|cells| cells[0] == row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Vec<(&'static str, String)> {
        let mut tables: Vec<(&str, String)> = Vec::new();
        for SummaryRow { place, row, .. } in SUMMARY {
            let line = format!("| {row} | 1.50 ms | 0.95 (0.90–1.00) |\n");
            match tables.iter_mut().find(|(name, _)| *name == place) {
                Some((_, table)) => *table += &line,
                None => tables.push((place, line)),
            }
        }
        tables
    }

    #[test]
    fn benchmarks_print_the_rows_of_the_summary_and_documents_have_a_place_for_each_table() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let performance = fs::read_to_string(workspace.join(PERFORMANCE)).unwrap();
        for table in TABLES {
            let source = format!("crates/{}/benches/{}.rs", table.package, table.bench);
            let source = fs::read_to_string(workspace.join(source)).unwrap();
            for row in SUMMARY.iter().filter(|row| row.place == table.place) {
                assert!(source.contains(&format!("\"{}\"", row.row)), "{}", row.row);
            }
            assert!(with_table(&performance, table.place, "").is_some(), "{}", table.place);
        }
        let readme = fs::read_to_string(workspace.join(README)).unwrap();
        assert!(with_table(&readme, "summary", "").is_some());
    }

    #[test]
    fn a_table_replaces_the_one_at_its_place() {
        let text = "a\n<!-- x, measured by `cargo xtask bench` -->\n\nold\n\
            <!-- end of what was measured -->\nb\n";
        let expected = "a\n<!-- x, measured by `cargo xtask bench` -->\n\n| new |\n\n\
            <!-- end of what was measured -->\nb\n";
        assert_eq!(with_table(text, "x", "| new |\n").as_deref(), Some(expected));
        assert_eq!(with_table(text, "y", "| new |\n"), None);
    }

    #[test]
    fn the_summary_has_a_row_from_each_table_row_that_it_names() {
        let summary = summary(&tables()).unwrap();
        assert_eq!(summary.lines().count(), SUMMARY.len() + 2);
        let last = summary.lines().last().unwrap();
        assert!(last.ends_with(" | 1.50 ms | one after another | 0.95 |"), "{last}");
    }

    #[test]
    fn a_row_that_no_table_has_is_an_error() {
        let mut tables = tables();
        tables.pop();
        assert!(summary(&tables).unwrap_err().contains("has no row"));
    }
}
