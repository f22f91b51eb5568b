//! Command lines for bash, from arguments of any bytes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Quotes a program and its arguments as one command line.
pub(crate) fn of_arguments(arguments: &[OsString]) -> String {
    let mut line = String::from("exec --");
    for argument in arguments {
        line.push(' ');
        match argument.to_str() {
            Some(text) => line += &format!("'{}'", text.replace('\'', r"'\''")),
            None => line += &escaped(argument),
        }
    }
    line
}

/// Returns a command line with the effect of `bash -c SCRIPT`.
pub(crate) fn of_script(script: &OsStr) -> String {
    match script.to_str() {
        Some(text) => text.to_owned(),
        None => format!("eval {}", escaped(script)),
    }
}

/// Quotes any bytes as escapes, which bash decodes.
fn escaped(text: &OsStr) -> String {
    let bytes = text.as_bytes().iter().map(|byte| format!("\\x{byte:02x}"));
    format!("$'{}'", bytes.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[u8]) {
        let ran = std::process::Command::new("bash").args(["-c", line]).output().unwrap();
        assert_eq!(ran.stdout, expected, "{line}");
    }

    #[test]
    fn bash_receives_the_bytes_of_arguments_and_scripts() {
        let arguments: [&[u8]; 4] = [b"printf", b"%s|", b"it's \xff$x\n", b"\xfe\xff1"];
        let arguments = arguments.map(|bytes| OsStr::from_bytes(bytes).to_owned());
        check(&of_arguments(&arguments), b"it's \xff$x\n|\xfe\xff1|");
        check(&of_script(OsStr::new("echo \"a b\"; exit 3")), b"a b\n");
        check(
            &of_script(OsStr::from_bytes(b"x='\xff1'\nprintf '%s;' \"$x\" -- 2")),
            b"\xff1;--;2;",
        );
    }
}
