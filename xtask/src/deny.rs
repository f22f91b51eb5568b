//! Licences and duplicates of dependencies: cargo-deny by the rules of `deny.toml`.

use crate::step::{Outcome, Runner};

pub(crate) fn check(runner: &mut Runner) -> Outcome {
    if runner.output(runner.cargo(["deny", "--version"])).is_err() {
        return runner.skip("licences and duplicates", "cargo install cargo-deny --locked");
    }
    let deny = runner.cargo(["deny", "--locked", "check", "licenses", "bans"]);
    runner.command(deny)
}
