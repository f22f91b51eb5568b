//! Names of variables that make a program load code, run a command or read a configuration.
//!
//! Values come from a store of variables, and skills select them. Neither may decide what the
//! programs of a session run.

use Form::{Between, Npm, Prefix, Suffix, Whole};

/// Forms of a name.
#[derive(Clone, Copy)]
enum Form {
    Whole,
    Prefix,
    Suffix,
    /// A beginning and an end, with something between.
    Between(&'static str),
    /// A setting of npm, which reads it in any case, with `-` or `_`.
    Npm,
}

const GIT: &str = "a program that git runs";
const REPOSITORY: &str = "the repository that git uses";
const PAGER: &str = "a program that shows text";
const EDITOR: &str = "a program that edits text";
const CARGO: &str = "a program that Cargo runs";
const NPM: &str = "a program that npm runs";

/// The names, with the part of a program that they control.
const HIJACKING: &[(&str, Form, &str)] = &[
    ("LD_", Prefix, "the dynamic loader"),
    ("DYLD_", Prefix, "the dynamic loader"),
    ("GLIBC_TUNABLES", Whole, "the C library"),
    ("GCONV_PATH", Whole, "the C library"),
    ("PATH", Whole, "the search for programs"),
    ("HOME", Whole, "the configuration of programs"),
    ("XDG_CONFIG_HOME", Whole, "the configuration of programs"),
    ("SHELL", Whole, "the shell that programs run"),
    ("BASH_ENV", Whole, "the shell's start"),
    ("BASH_FUNC_", Prefix, "the shell's functions"),
    ("BASH_LOADABLES_PATH", Whole, "the shell's built-in commands"),
    ("BASHOPTS", Whole, "the shell's options"),
    ("ENV", Whole, "the shell's start"),
    ("IFS", Whole, "the shell's word splitting"),
    ("PROMPT_COMMAND", Whole, "the shell's prompt"),
    ("PS4", Whole, "the shell's tracing"),
    ("SHELLOPTS", Whole, "the shell's options"),
    ("ZDOTDIR", Whole, "the shell's start"),
    ("NODE_OPTIONS", Whole, "Node's start"),
    ("NODE_PATH", Whole, "Node's modules"),
    ("NODE_REPL_EXTERNAL_MODULE", Whole, "Node's modules"),
    ("NPM_CONFIG_EDITOR", Npm, EDITOR),
    ("NPM_CONFIG_GIT", Npm, NPM),
    ("NPM_CONFIG_GLOBALCONFIG", Npm, "npm's configuration"),
    ("NPM_CONFIG_INIT_MODULE", Npm, "npm's modules"),
    ("NPM_CONFIG_NODE_OPTIONS", Npm, "Node's start"),
    ("NPM_CONFIG_PREFIX", Npm, "npm's modules"),
    ("NPM_CONFIG_SCRIPT_SHELL", Npm, NPM),
    ("NPM_CONFIG_SHELL", Npm, NPM),
    ("NPM_CONFIG_USERCONFIG", Npm, "npm's configuration"),
    ("NPM_CONFIG_VIEWER", Npm, NPM),
    ("DOTNET_ADDITIONAL_DEPS", Whole, ".NET's modules"),
    ("DOTNET_STARTUP_HOOKS", Whole, ".NET's start"),
    ("CORECLR_", Prefix, ".NET's profiler"),
    ("PYTHONBREAKPOINT", Whole, "Python's debugger"),
    ("PYTHONHOME", Whole, "Python's start"),
    ("PYTHONPATH", Whole, "Python's modules"),
    ("PYTHONSTARTUP", Whole, "Python's start"),
    ("PYTHONUSERBASE", Whole, "Python's modules"),
    ("PERL5DB", Whole, "Perl's start"),
    ("PERL5LIB", Whole, "Perl's modules"),
    ("PERL5OPT", Whole, "Perl's start"),
    ("PERLLIB", Whole, "Perl's modules"),
    ("RUBYLIB", Whole, "Ruby's modules"),
    ("RUBYOPT", Whole, "Ruby's start"),
    ("GEM_HOME", Whole, "Ruby's modules"),
    ("GEM_PATH", Whole, "Ruby's modules"),
    ("BUNDLE_GEMFILE", Whole, "Ruby's modules"),
    ("JAVA_TOOL_OPTIONS", Whole, "Java's start"),
    ("JDK_JAVA_OPTIONS", Whole, "Java's start"),
    ("CLASSPATH", Whole, "Java's classes"),
    ("GRADLE_OPTS", Whole, "Java's start"),
    ("MAVEN_OPTS", Whole, "Java's start"),
    ("LUA_CPATH", Prefix, "Lua's modules"),
    ("LUA_INIT", Prefix, "Lua's start"),
    ("LUA_PATH", Prefix, "Lua's modules"),
    ("PHPRC", Whole, "PHP's configuration"),
    ("PHP_INI_SCAN_DIR", Whole, "PHP's configuration"),
    ("OPENSSL_CONF", Prefix, "OpenSSL's configuration"),
    ("OPENSSL_ENGINES", Whole, "OpenSSL's modules"),
    ("OPENSSL_MODULES", Whole, "OpenSSL's modules"),
    ("MAKEFLAGS", Whole, "make's options"),
    ("GNUMAKEFLAGS", Whole, "make's options"),
    ("MFLAGS", Whole, "make's options"),
    ("MAKEFILES", Whole, "the files that make reads"),
    ("GOFLAGS", Whole, "Go's options"),
    ("RUSTC", Whole, CARGO),
    ("RUSTC_WORKSPACE_WRAPPER", Whole, CARGO),
    ("RUSTC_WRAPPER", Whole, CARGO),
    ("RUSTDOC", Whole, CARGO),
    ("RUSTFLAGS", Whole, "the options of rustc"),
    ("RUSTDOCFLAGS", Whole, "the options of rustdoc"),
    ("CARGO_BUILD_RUST", Prefix, CARGO),
    ("CARGO_ENCODED_RUST", Prefix, CARGO),
    ("CARGO_TARGET_", Between("_LINKER"), CARGO),
    ("CARGO_TARGET_", Between("_RUNNER"), CARGO),
    ("CARGO_TARGET_", Between("_RUSTFLAGS"), CARGO),
    ("GIT_ALTERNATE_OBJECT_DIRECTORIES", Whole, REPOSITORY),
    ("GIT_ASKPASS", Whole, GIT),
    ("GIT_COMMON_DIR", Whole, REPOSITORY),
    ("GIT_CONFIG", Prefix, "git's configuration"),
    ("GIT_DIR", Whole, REPOSITORY),
    ("GIT_EXEC_PATH", Whole, GIT),
    ("GIT_EXTERNAL_DIFF", Whole, GIT),
    ("GIT_INDEX_FILE", Whole, REPOSITORY),
    ("GIT_OBJECT_DIRECTORY", Whole, REPOSITORY),
    ("GIT_PROXY_COMMAND", Whole, GIT),
    ("GIT_SSH", Prefix, GIT),
    ("GIT_TEMPLATE_DIR", Whole, "git's hooks"),
    ("GIT_WORK_TREE", Whole, REPOSITORY),
    ("SSH_ASKPASS", Whole, "a program that ssh runs"),
    ("SUDO_ASKPASS", Whole, "a program that sudo runs"),
    ("PAGER", Whole, PAGER),
    ("_PAGER", Suffix, PAGER),
    ("MANPAGER", Whole, PAGER),
    ("BROWSER", Whole, "a program that shows pages"),
    ("EDITOR", Whole, EDITOR),
    ("FCEDIT", Whole, EDITOR),
    ("HGEDITOR", Whole, EDITOR),
    ("_EDITOR", Suffix, EDITOR),
    ("VISUAL", Whole, EDITOR),
    ("EXINIT", Whole, "the commands of vim"),
    ("MYVIMRC", Whole, "the commands of vim"),
    ("VIMINIT", Whole, "the commands of vim"),
    ("FZF_DEFAULT_", Prefix, "a program that fzf runs"),
    ("HGMERGE", Whole, "a program that Mercurial runs"),
    ("HGRCPATH", Whole, "Mercurial's configuration"),
    ("PSQLRC", Whole, "the commands of psql"),
    ("CVS_RSH", Whole, "a program that CVS runs"),
    ("RSYNC_CONNECT_PROG", Whole, "a program that rsync runs"),
    ("RSYNC_RSH", Whole, "a program that rsync runs"),
    ("TAR_OPTIONS", Whole, "the options of tar"),
    ("_COMPILER_LAUNCHER", Suffix, "a program that CMake runs"),
    ("COMPILER_PATH", Whole, "the programs of GCC"),
    ("GCC_EXEC_PREFIX", Whole, "the programs of GCC"),
    ("CAML_LD_LIBRARY_PATH", Whole, "OCaml's modules"),
    ("EMACSLOADPATH", Whole, "Emacs's modules"),
    ("GIO_", Prefix, "GLib's modules"),
    ("GTK_MODULES", Whole, "GTK's modules"),
    ("GTK_PATH", Whole, "GTK's modules"),
    ("GUILE_", Prefix, "Guile's modules"),
    ("JULIA_LOAD_PATH", Whole, "Julia's modules"),
    ("QT_PLUGIN_PATH", Whole, "Qt's modules"),
    ("R_PROFILE", Prefix, "R's start"),
    ("TCLLIBPATH", Whole, "Tcl's modules"),
    // The options of less can contain commands.
    ("LESS", Whole, "the commands of less"),
    ("LESSCLOSE", Whole, "a program that less runs"),
    ("LESSKEY", Prefix, "the commands of less"),
    ("LESSOPEN", Whole, "a program that less runs"),
];

/// Returns the part of a program that a variable of this name controls.
pub(super) fn target(name: &str) -> Option<&'static str> {
    let found = HIJACKING.iter().find(|(pattern, form, _)| form.matches(pattern, name));
    found.map(|(_, _, target)| *target)
}

impl Form {
    fn matches(self, pattern: &str, name: &str) -> bool {
        match self {
            Whole => name == pattern,
            Prefix => name.starts_with(pattern),
            Suffix => name.ends_with(pattern),
            Between(end) => {
                name.strip_prefix(pattern).is_some_and(|rest| rest.len() > end.len())
                    && name.ends_with(end)
            }
            Npm => {
                let plain = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
                name.bytes().map(plain).eq(pattern.bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_control_a_program_are_found() {
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "DYLD_INSERT_LIBRARIES",
            "PATH",
            "HOME",
            "BASH_ENV",
            "ENV",
            "BASH_FUNC_ls%%",
            "SHELLOPTS",
            "PS4",
            "IFS",
            "NODE_OPTIONS",
            "npm_config_node_options",
            "NPM_CONFIG_NODE_OPTIONS",
            "npm_config_script-shell",
            "DOTNET_STARTUP_HOOKS",
            "CORECLR_PROFILER_PATH",
            "PYTHONSTARTUP",
            "PYTHONBREAKPOINT",
            "PERL5OPT",
            "PHPRC",
            "PHP_INI_SCAN_DIR",
            "OPENSSL_CONF",
            "OPENSSL_MODULES",
            "CLASSPATH",
            "MAKEFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_BUILD_RUSTC",
            "CARGO_BUILD_RUSTC_WRAPPER",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER",
            "GIT_SSH_COMMAND",
            "GIT_CONFIG_COUNT",
            "GIT_DIR",
            "GIT_WORK_TREE",
            "PAGER",
            "GIT_PAGER",
            "AWS_PAGER",
            "KUBE_EDITOR",
            "TAR_OPTIONS",
            "RSYNC_RSH",
            "VIMINIT",
            "FZF_DEFAULT_COMMAND",
            "CMAKE_C_COMPILER_LAUNCHER",
            "npm_config_prefix",
            "R_PROFILE_USER",
            "MANPAGER",
            "LESSOPEN",
            "EDITOR",
            "VISUAL",
        ] {
            assert!(target(name).is_some(), "{name}");
        }
    }
}
