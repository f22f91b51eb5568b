//! Words of a command in a git configuration, and the files that they can name.
//!
//! Git gives most commands to a shell. Their words are found in two ways: split at every sign of a
//! shell, which finds the words of commands in quotes, and as a shell reads quotes and backslashes,
//! which finds names with blanks.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Lead, LeadSearch};

/// Maximum depth of quotes in quotes.
const MAX_QUOTES: usize = 3;
/// Words after which a directory is entered, so that later words are relative to it.
const ENTERING: [&[u8]; 5] = [b"cd", b"pushd", b"-C", b"--directory", b"--chdir"];
/// Maximum number of directories that one command enters.
const MAX_BASES: usize = 16;
/// Number of words behind them that can be a part of the directory's name.
const MAX_DIRECTORY_WORDS: usize = 6;
/// Programs that run a file which an argument names. A name can have a version, as in `python3`.
const INTERPRETERS: [&str; 24] = [
    ".", "ash", "bash", "bun", "dash", "deno", "fish", "java", "ksh", "lua", "mksh", "node",
    "nodejs", "perl", "php", "pwsh", "pypy", "python", "ruby", "sh", "source", "tsx", "uv", "zsh",
];
/// Ends of the names of scripts.
const SCRIPTS: [&[u8]; 16] = [
    b".bash", b".cjs", b".fish", b".jar", b".js", b".ksh", b".lua", b".mjs", b".php", b".pl",
    b".ps1", b".py", b".rb", b".sh", b".ts", b".zsh",
];
/// Programs that run a file in a directory which an argument names, with the names of the file.
const DIRECTORY_PROGRAMS: [(&[&str], &[&str]); 3] = [
    (&["pypy", "python"], &["__main__.py"]),
    (&["bun", "deno", "node", "nodejs", "tsx"], &["index.js", "package.json"]),
    (&["gmake", "make"], &["GNUmakefile", "Makefile", "makefile"]),
];

impl LeadSearch<'_> {
    /// Adds the files that the words of a command name, also absent ones with several components.
    /// A program without a slash is searched in `PATH`, but an argument is a file. A command can
    /// enter another directory first.
    pub(super) fn add_command(&mut self, dir: &Path, command: &[u8]) {
        let quoted = quoted_words(command);
        let plain: Vec<&[u8]> = words(command).collect();
        let quoted: Vec<&[u8]> = quoted.iter().map(Vec::as_slice).collect();
        let mut bases = vec![dir.to_owned()];
        for words in [&plain, &quoted] {
            self.add_entered(words, &mut bases);
        }
        let program = first_word(command);
        for base in &bases {
            for word in plain.iter().chain(&quoted).filter(|word| word.contains(&b'/')) {
                self.add_absent(base, word);
            }
            self.add_files(base, command, |word| word.contains(&b'/') || word != program);
            self.add_run(base, &plain, base != dir);
        }
        if !command.iter().any(|byte| b"$`".contains(byte)) {
            return;
        }
        // An expansion in front of a path is unknown: often the work tree, or the home directory.
        let rests = plain.iter().chain(&quoted).filter_map(|word| after_expansion(word));
        for rest in rests {
            for base in [dir, self.home] {
                self.add_absent(base, rest);
                self.add_file(base, rest);
            }
        }
    }

    /// Adds the directories that a command enters to `bases`.
    fn add_entered(&mut self, words: &[&[u8]], bases: &mut Vec<PathBuf>) {
        for group in entered(words) {
            for (at, word) in group.into_iter().enumerate() {
                let mut found = Vec::new();
                for (word, is_named) in [(Some(word), at == 0), (after_expansion(word), false)] {
                    let Some(word) = word else { continue };
                    for base in bases.clone().iter().map(PathBuf::as_path).chain([self.home]) {
                        let Some(path) = self.path(base, word) else { continue };
                        // The directory may be absent, and a command could create it.
                        if is_named || self.is_directory(&path) {
                            found.push(path);
                        }
                    }
                }
                found.retain(|path| !bases.contains(path));
                bases.extend(found);
                if bases.len() > MAX_BASES {
                    self.left = 0;
                    return;
                }
            }
        }
    }

    /// Adds the files that an interpreter runs although no word is their path. `is_entered` tells
    /// whether the command enters `base` by its name.
    fn add_run(&mut self, base: &Path, words: &[&[u8]], is_entered: bool) {
        let scripts = scripts(words).into_iter().map(<[u8]>::to_vec);
        let modules = modules(words).into_iter().map(String::into_bytes);
        for word in scripts.chain(modules) {
            let path = self.path(base, &word);
            let file = path.filter(|path| !self.is_directory(path));
            self.leads.extend(file.map(|path| (path, Lead::File)));
        }
        let files = run_in_directory(words);
        if files.is_empty() {
            return;
        }
        let mut dirs: Vec<PathBuf> = words.iter().filter_map(|it| self.path(base, it)).collect();
        dirs.extend(is_entered.then(|| base.to_owned()));
        dirs.retain(|dir| self.is_directory(dir));
        for dir in dirs {
            self.leads.extend(files.iter().map(|file| (dir.join(file), Lead::File)));
        }
    }
}

/// Returns the words of a value, without the signs of a shell.
pub(super) fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_sign = |byte: &u8| byte.is_ascii_whitespace() || b"'\";&|()<>{}$`=".contains(byte);
    whole(value).split(is_sign).filter(|word| !word.is_empty())
}

/// Returns a value without the mark of an alias that is no command of git.
fn whole(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"!").unwrap_or(value)
}

/// Returns the words as a shell reads them, also those of commands in quotes.
pub(super) fn quoted_words(value: &[u8]) -> Vec<Vec<u8>> {
    let mut found = shell_words(whole(value));
    let mut inner = found.clone();
    for _ in 1..MAX_QUOTES {
        inner =
            inner.iter().filter(|word| has_signs(word)).flat_map(|it| shell_words(it)).collect();
        found.extend(inner.iter().cloned());
    }
    let values: Vec<Vec<u8>> = found.iter().filter_map(|word| after_equals(word)).collect();
    found.extend(values);
    found
}

fn has_signs(word: &[u8]) -> bool {
    word.iter().any(|byte| byte.is_ascii_whitespace() || b"'\"\\".contains(byte))
}

/// Returns the value of an assignment or of a long option.
fn after_equals(word: &[u8]) -> Option<Vec<u8>> {
    let at = word.iter().position(|byte| *byte == b'=')?;
    Some(word[at + 1..].to_owned()).filter(|value| !value.is_empty())
}

fn shell_words(value: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut rest = value.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match (quote, byte) {
            (None, b'\'' | b'"') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (Some(open), byte) if byte == open => quote = None,
            (None | Some(b'"'), b'\\') => {
                let is_escape = |next: &u8| quote.is_none() || b"\\\"$`\n".contains(next);
                let byte = rest.next_if(is_escape).unwrap_or(byte);
                word.get_or_insert_default().push(byte);
            }
            (None, byte) if byte.is_ascii_whitespace() || b";&|()<>".contains(&byte) => {
                words.extend(word.take());
            }
            (_, byte) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Returns the path in a word behind an expansion: behind the slash after `$(…)` or `"${…}"`, or
/// behind the name of a variable.
fn after_expansion(word: &[u8]) -> Option<&[u8]> {
    let closing = word.windows(2).rposition(|pair| matches!(pair, b")/" | b"}/" | b"`/"));
    if let Some(at) = closing.filter(|_| word.iter().any(|byte| b"$`".contains(byte))) {
        return Some(&word[at + 2..]).filter(|rest| !rest.is_empty());
    }
    let at = word.iter().position(|byte| *byte == b'/')?;
    let name = word[..at].strip_prefix(b"$").unwrap_or(&word[..at]);
    let is_variable = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    Some(&word[at + 1..]).filter(|rest| is_variable && !rest.is_empty())
}

/// Returns the first word of a command, which names its program.
pub(super) fn first_word(command: &[u8]) -> &[u8] {
    let command = whole(command).trim_ascii_start();
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || b"'\"$`;&|()<>".contains(byte);
    let end = command.iter().position(is_end).unwrap_or(command.len());
    &command[..end]
}

/// Returns the words that can name a directory which the command enters, in the order of entering.
/// The first of each group stands directly behind `cd`.
fn entered<'w>(words: &[&'w [u8]]) -> Vec<Vec<&'w [u8]>> {
    let is_entering = |word: &&[u8]| ENTERING.contains(word);
    let starts = words.iter().enumerate().filter(|(_, word)| is_entering(word));
    let group = |at: usize| {
        let behind = words[at + 1..].iter().take(MAX_DIRECTORY_WORDS).copied();
        behind.take_while(|word| !is_entering(word)).collect()
    };
    starts.map(|(at, _)| group(at)).collect()
}

/// Returns whether a word names one of the programs, in any version.
fn is_program(word: &[u8], programs: &[&str]) -> bool {
    let name = Path::new(OsStr::from_bytes(word)).file_name().unwrap_or_default().as_bytes();
    let is_version = |rest: &[u8]| rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    // `.` is no name of a file.
    programs.iter().any(|program| {
        word == program.as_bytes() || name.strip_prefix(program.as_bytes()).is_some_and(is_version)
    })
}

/// Returns the words without a slash by which an interpreter finds its script.
fn scripts<'w>(words: &[&'w [u8]]) -> Vec<&'w [u8]> {
    let mut found = Vec::new();
    let is_interpreter = |word: &[u8]| is_program(word, &INTERPRETERS);
    for (at, word) in words.iter().enumerate().filter(|(_, word)| is_interpreter(word)) {
        let arguments = &words[at + 1..];
        let mut plain = arguments.iter().position(|word| !word.starts_with(b"-"));
        let is_shell = word.ends_with(b"sh");
        let is_inline = |option: &&[u8]| {
            let is_code = option.ends_with(b"c") || option.ends_with(b"m");
            option.len() < 5
                && (is_code || (!is_shell && b"er".contains(&option[option.len() - 1])))
        };
        // The code behind such an option is no file.
        let options = &arguments[..plain.unwrap_or(arguments.len())];
        if options.iter().any(is_inline) {
            plain = None;
        }
        found.extend(plain.map(|plain| arguments[plain]));
        let is_script = |word: &&&[u8]| SCRIPTS.iter().any(|end| word.ends_with(end));
        found.extend(arguments.iter().filter(is_script));
    }
    found.retain(|word| !word.iter().any(|byte| b"/:%*\\".contains(byte)));
    found
}

/// Returns the names of the files that a command runs in a directory, if an argument names one.
fn run_in_directory(words: &[&[u8]]) -> Vec<&'static str> {
    let is_named = |programs: &[&str]| words.iter().any(|word| is_program(word, programs));
    let named = DIRECTORY_PROGRAMS.iter().filter(|(programs, _)| is_named(programs));
    named.flat_map(|(_, files)| files.iter().copied()).collect()
}

/// Returns the files of the modules that `python -m` runs.
fn modules(words: &[&[u8]]) -> Vec<String> {
    let is_python = words.iter().any(|word| is_program(word, DIRECTORY_PROGRAMS[0].0));
    let pairs = words.windows(2).filter(|pair| is_python && pair[0] == b"-m");
    let names = pairs.filter_map(|pair| std::str::from_utf8(pair[1]).ok());
    let mut files = Vec::new();
    for name in names.filter(|name| !name.contains('/')) {
        let mut path = String::new();
        for part in name.split('.').filter(|part| !part.is_empty()) {
            path += part;
            files.extend([format!("{path}.py"), format!("{path}/__init__.py")]);
            path += "/";
        }
        files.push(format!("{path}__main__.py"));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(found: &[&[u8]], expected: &[&str]) {
        let found: Vec<_> = found.iter().map(|word| String::from_utf8_lossy(word)).collect();
        assert_eq!(found, expected);
    }

    fn split(command: &str) -> Vec<&[u8]> {
        words(command.as_bytes()).collect()
    }

    #[test]
    fn quotes_are_read_at_any_depth() {
        for (command, expected) in [
            ("a 'b c/d' e", "b c/d"),
            (r"my\ tools/x", "my tools/x"),
            (r#"sh -c "'my tools/x' y""#, "my tools/x"),
            (r#"sh -c "sh -c 'my\\ tools/x'""#, "my tools/x"),
            (r#"A="my tools/x" b"#, "my tools/x"),
            ("!f() { 'b c/d'; }; f", "b c/d"),
            ("'open", "open"),
        ] {
            let found = quoted_words(command.as_bytes());
            assert!(found.iter().any(|word| word == expected.as_bytes()), "{command}: {found:?}");
        }
    }

    #[test]
    fn a_script_is_the_first_argument_or_has_the_end_of_one() {
        check(&scripts(&split("sh fsm")), &["fsm"]);
        check(
            &scripts(&split("env A=1 /usr/bin/python3.12 -W ignore x.py %f")),
            &["ignore", "x.py"],
        );
        check(&scripts(&split("sh -ec 'commit topic'")), &[]);
        check(&scripts(&split("checkout -b topic")), &[]);
        check(&scripts(&split(". x")), &["x"]);
        check(&scripts(&split("shellcheck x")), &[]);
    }

    #[test]
    fn directories_and_modules_lead_to_their_files() {
        assert_eq!(run_in_directory(&split("python3 tools")), ["__main__.py"]);
        assert_eq!(run_in_directory(&split("eslint src")), [] as [&str; 0]);
        let files = ["a.py", "a/__init__.py", "a/b.py", "a/b/__init__.py", "a/b/__main__.py"];
        assert_eq!(modules(&split("python3 -m a.b")), files);
        assert_eq!(modules(&split("commit -m text")), [] as [&str; 0]);
        let groups = entered(&split("cd a && ./x; make -C b"));
        check(&groups[0], &["a", "./x", "make"]);
        check(&groups[1], &["b"]);
    }

    #[test]
    fn a_path_stands_behind_an_expansion() {
        for (word, expected) in [
            ("$HOME/a b", Some("a b")),
            ("/x", Some("x")),
            ("$(git rev-parse --show-toplevel)/a/b", Some("a/b")),
            ("${A}/", None),
            ("a-b/c", None),
        ] {
            let rest = after_expansion(word.as_bytes());
            assert_eq!(rest, expected.map(str::as_bytes), "{word}");
        }
    }
}
