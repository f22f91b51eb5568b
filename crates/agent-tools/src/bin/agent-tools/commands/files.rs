//! The subcommands `ls`, `cat` and `cp`: files of a session.

mod copy_in;
mod copy_out;
mod counted;
mod new_file;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use agent_tools::{FileKind, ListOptions, ListedEntry, Session, printable};
use clap::{Args, Subcommand};
use sandbox_core::SessionPath;

use super::tools::{check_lasts, not_whole, print_file};
use crate::context::Context;
use crate::failure::Failure;
use crate::options::{SessionArgs, session_path};
use crate::output::{errln, outln};
use crate::signals::{OnSignal, use_session};
use crate::times::utc;

/// The subcommands that list, print and copy files.
#[derive(Debug, Subcommand)]
pub(crate) enum FileCommand {
    /// List a directory of a session.
    #[command(after_help = "Examples:\n  $ agent-tools ls\n  $ agent-tools ls --long .\n  \
                            $ agent-tools ls --json /tmp")]
    Ls(Ls),
    /// Print files of a session, one after the other.
    ///
    /// A file that cannot be read is reported, and the others are printed. The exit code is 1 then.
    #[command(after_help = "Examples:\n  $ agent-tools cat greeting.txt\n  \
                            $ agent-tools cat notes.txt greeting.txt > all.txt")]
    Cat(Cat),
    /// Copy a file or a directory into a session, or out of it.
    ///
    /// A path of the session begins with a colon. Into an existing directory, the copy goes under
    /// its own name, and so it does into one of the session that ends with a slash. Otherwise it
    /// gets the name of the target. Directories are merged, and files replaced, with their mode and
    /// owner on the way out. A target that is a symlink, a FIFO or a device is refused there.
    /// Symlinks that lead out of the copied directory, also through other symlinks, are refused on
    /// the way in, and left out on the way out. `/tmp` of a session ends with the process that has
    /// the session open, so a copy into it needs another one, such as `mcp`. Nothing is redacted.
    #[command(after_help = "Examples:\n  $ agent-tools cp report.csv :\n  \
                            $ agent-tools cp ./data :inputs/data\n  \
                            $ agent-tools cp :inputs ./copy")]
    Cp(Cp),
}

#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Show type, size and time of the last change too.
    #[arg(short, long)]
    long: bool,
    /// Directory, relative to the session directory [default: the session directory].
    #[arg(value_parser = session_path(), default_value = "", hide_default_value = true)]
    path: String,
    #[command(flatten)]
    session: SessionArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Cat {
    /// Files, relative to the session directory.
    #[arg(value_parser = session_path(), required = true)]
    paths: Vec<String>,
    #[command(flatten)]
    session: SessionArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Cp {
    /// File or directory to copy; one of the session begins with a colon.
    source: OsString,
    /// Target; one in the session begins with a colon.
    target: OsString,
    #[command(flatten)]
    session: SessionArgs,
}

pub(crate) async fn run(context: &Context, command: FileCommand) -> Result<ExitCode, Failure> {
    match command {
        FileCommand::Ls(args) => ls(context, args).await,
        FileCommand::Cat(args) => cat(context, args).await,
        FileCommand::Cp(args) => cp(context, args).await,
    }
    .map_err(Failure::into_failed)
}

async fn ls(context: &Context, args: Ls) -> Result<ExitCode, Failure> {
    use_session(OnSignal::Kill, context.open_existing(&args.session), async |session| {
        let stat = session.stat(&args.path).await.map_err(Failure::failed)?;
        let entries = if stat.kind == FileKind::Directory {
            list(session, &args.path).await?
        } else if args.path.ends_with('/') {
            return Err(Failure::failed_text(format!("{} is not a directory", args.path)));
        } else {
            let name = args.path.rsplit('/').next().unwrap_or_default().to_owned();
            vec![ListedEntry::new(name, stat)]
        };
        let listed: Vec<_> = entries.iter().map(json).collect();
        context.print(&listed, || {
            for ListedEntry { name, stat, .. } in &entries {
                let name = printable(name);
                let mark = if stat.kind == FileKind::Directory { "/" } else { "" };
                if args.long {
                    let (kind, time) = (letter(stat.kind), utc(stat.modified));
                    outln!("{kind}  {:>12}  {time}  {name}{mark}", stat.size);
                } else {
                    outln!("{name}{mark}");
                }
            }
        })?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

fn json(ListedEntry { name, stat, .. }: &ListedEntry) -> serde_json::Value {
    serde_json::json!({
        "name": name,
        "kind": stat.kind,
        "size": stat.size,
        "mode": format!("{:03o}", stat.mode),
        "modified": humantime::format_rfc3339_seconds(stat.modified).to_string(),
    })
}

/// Lists a whole directory, page by page.
async fn list(session: &Session, path: &str) -> Result<Vec<ListedEntry>, Failure> {
    let (mut options, mut entries) = (ListOptions::default(), Vec::new());
    loop {
        let page = session.list(path, options.clone()).await.map_err(Failure::failed)?;
        entries.extend(page.entries);
        if page.next.is_none() {
            if page.unnameable > 0 {
                let count = page.unnameable;
                errln!("agent-tools: {count} names are not UTF-8, and not listed");
            }
            return Ok(entries);
        }
        options.after = page.next;
    }
}

fn letter(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "-",
        FileKind::Directory => "d",
        FileKind::Symlink => "l",
        _ => "?",
    }
}

/// Prints one file after the other. Like `cat(1)`, it goes on after one that cannot be read.
async fn cat(context: &Context, args: Cat) -> Result<ExitCode, Failure> {
    use_session(OnSignal::Kill, context.open_existing(&args.session), async |session| {
        let (mut outputs, mut code) = (Vec::new(), ExitCode::SUCCESS);
        for path in &args.paths {
            let failure = match context.prints_json() {
                true => match session.read_file(path).await {
                    Ok(output) => {
                        outputs.push(serde_json::to_value(output).map_err(Failure::failed)?);
                        continue;
                    }
                    Err(error) => not_whole(error),
                },
                false => match print_file(session, path).await {
                    Ok(()) => continue,
                    Err(error) => Failure::failed(error),
                },
            };
            if args.paths.len() == 1 {
                return Err(failure);
            }
            outputs.push(failure.json());
            code = failure.report();
        }
        context.print(&outputs, || ())?;
        Ok(code)
    })
    .await
}

/// One side of a copy.
enum CopySide {
    Host(PathBuf),
    Session(String),
}

impl CopySide {
    fn parse(text: &OsString) -> Result<Self, Failure> {
        if text == "-" {
            return Err(Failure::usage(
                "`-` is no file; `cat` prints a file of the session, `write-file` reads standard \
                 input, and `./-` names a file",
            ));
        }
        if text.is_empty() {
            let problem = "a path is empty; `:` names the session directory, and `.` this one";
            return Err(Failure::usage(problem));
        }
        match text.as_bytes().strip_prefix(b":") {
            None => Ok(Self::Host(text.into())),
            Some(path) => match std::str::from_utf8(path) {
                Ok(path) => Ok(Self::Session(path.to_owned())),
                Err(_) => Err(Failure::usage("the path of the session is not UTF-8")),
            },
        }
    }
}

/// A copy between the host and a session.
enum Direction {
    In { from: PathBuf, to: String },
    Out { from: String, to: PathBuf },
}

impl Direction {
    fn parse(source: &OsString, target: &OsString) -> Result<Self, Failure> {
        match (CopySide::parse(source)?, CopySide::parse(target)?) {
            (CopySide::Host(from), CopySide::Session(to)) => Ok(Self::In { from, to }),
            (CopySide::Session(from), CopySide::Host(to)) => Ok(Self::Out { from, to }),
            (CopySide::Host(_), CopySide::Host(_)) => Err(Failure::usage(
                "neither path is one of the session; such a path begins with a colon, as in \
                 `cp notes.txt :notes.txt`",
            )),
            (CopySide::Session(_), CopySide::Session(_)) => {
                Err(Failure::usage("both paths are of the session; use `agent-tools bash 'cp …'`"))
            }
        }
    }
}

async fn cp(context: &Context, args: Cp) -> Result<ExitCode, Failure> {
    let direction = Direction::parse(&args.source, &args.target)?;
    let open = async {
        match &direction {
            Direction::Out { .. } => context.open_existing(&args.session).await,
            Direction::In { from, .. } => {
                // A copy that cannot begin creates no session.
                copy_in::check_source(from)?;
                context.open_for_files(&args.session).await
            }
        }
    };
    use_session(OnSignal::Kill, open, async |session| {
        let copied = match &direction {
            Direction::In { from, to } => {
                check_lasts(context, session, to)?;
                copy_in::copy(session, from, to, context.bars()).await?
            }
            Direction::Out { from, to } => {
                copy_out::copy(session, from, to, context.bars()).await?
            }
        };
        let notes: Vec<_> = copied.omitted.iter().map(ToString::to_string).collect();
        let note = anchored(session, &direction);
        let mut result = serde_json::json!({
            "target": copied.target,
            "entries": copied.entries,
            "bytes": copied.bytes,
            "omitted": copied.omitted,
            "pending": copied.pending,
        });
        if let Some(note) = &note {
            result["note"] = note.as_str().into();
        }
        context.print(&result, || {
            outln!("{}", printable(&copied.target));
            if let Some(note) = &note {
                errln!("agent-tools: note: {}", printable(note));
            }
            notes.iter().for_each(|note| errln!("agent-tools: left out: {note}"));
            if copied.pending > 0 {
                errln!("agent-tools: {} changes are not in the store yet", copied.pending);
            }
        })?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// Returns a note if the leading slash of the target stands for the session directory.
fn anchored(session: &Session, direction: &Direction) -> Option<String> {
    let Direction::In { to, .. } = direction else { return None };
    // `/tmp` is that of commands.
    SessionPath::outside(session.dir(), to).filter(|path| !path.starts_with("/tmp"))?;
    let path = SessionPath::resolve(session.dir(), to).ok()?;
    let absolute = path.absolute().display();
    Some(format!("{to} is {absolute} for this tool: it cannot reach files of the system"))
}

/// The result of a copy.
#[derive(Default)]
struct Copied {
    /// The path of the copy, as the caller would name it.
    target: String,
    entries: u64,
    bytes: u64,
    omitted: Vec<agent_tools::FileNote>,
    /// The number of changes that the store does not have yet.
    pending: usize,
}

/// Returns the name that a copy has in an existing directory.
fn own_name(path: &str) -> Result<&str, Failure> {
    match path.trim_end_matches('/').rsplit('/').next() {
        Some("" | "." | "..") | None => Err(Failure::usage(format!(
            "{path:?} has no name of its own; name the target of the copy"
        ))),
        Some(name) => Ok(name),
    }
}
