//! Counts test results in the output of Rust's test harness.

use std::collections::BTreeSet;

/// Lines shown of a panic message.
const SHOWN_LINES: usize = 8;

/// The tests of all harnesses read so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tests {
    /// Tests that passed and skipped nothing.
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// The names of failed tests, each followed by its panic messages.
    pub(crate) failures: Vec<String>,
    /// Ignored tests, and tests that passed but printed `SKIPPED: …`.
    pub(crate) skipped: u64,
    /// The lines that they printed.
    pub(crate) skips: Vec<String>,
    /// Checks omitted on purpose.
    pub(crate) left_out: BTreeSet<String>,
}

impl Tests {
    /// Adds the results of others.
    pub(crate) fn add(&mut self, others: Self) {
        self.passed = self.passed.wrapping_add(others.passed);
        self.failed += others.failed;
        self.failures.extend(others.failures);
        self.skipped += others.skipped;
        self.skips.extend(others.skips);
        self.left_out.extend(others.left_out);
    }

    /// Reads the output of `cargo test -- --show-output`.
    pub(crate) fn read(&mut self, output: &str) {
        self.read_without(output, &[]);
    }

    /// Reads the output of tests that omit some checks on purpose. `left_out` has the beginnings of
    /// their texts.
    pub(crate) fn read_without(&mut self, output: &str, left_out: &[&str]) {
        let mut of_passed = false;
        let mut counted = false;
        let mut lines = output.lines();
        while let Some(line) = lines.next() {
            match line {
                "successes:" => of_passed = true,
                "failures:" => of_passed = false,
                _ if line.starts_with("---- ") => counted = false,
                _ if line.starts_with("SKIPPED: ") => {
                    let what = line.trim_start_matches("SKIPPED: ");
                    if left_out.iter().any(|begin| what.starts_with(begin)) {
                        self.left_out.insert(what.to_owned());
                    } else {
                        self.skips.push(line.to_owned());
                    }
                    if of_passed && !counted {
                        counted = true;
                        self.skipped += 1;
                        self.passed = self.passed.wrapping_sub(1);
                    }
                }
                _ if line.starts_with("test ") && line.ends_with(" ... FAILED") => {
                    self.failures.push(line.to_owned());
                }
                // Tests that must panic do so as well.
                _ if line.contains(" panicked at ") && !of_passed => {
                    self.failures.push(format!("    {line}"));
                    let message = lines.by_ref().take_while(|line| !line.is_empty());
                    let message = message.take(SHOWN_LINES).map(|line| format!("    {line}"));
                    self.failures.extend(message);
                }
                _ => {
                    if let Some(result) = line.strip_prefix("test result: ") {
                        of_passed = false;
                        self.passed = self.passed.wrapping_add(number(result, "passed"));
                        self.failed += number(result, "failed");
                        self.skipped += number(result, "ignored");
                    }
                }
            }
        }
    }
}

/// Returns the number before a word, such as 3 for "passed" in `ok. 3 passed; 0 failed`.
fn number(result: &str, word: &str) -> u64 {
    let words: Vec<&str> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: &str, passed: u64, failed: u64, skipped: u64, skips: &[&str]) {
        let mut tests = Tests::default();
        tests.read(output);
        let skips: Vec<_> = skips.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!((tests.passed, tests.failed, tests.skipped), (passed, failed, skipped));
        assert_eq!(tests.skips, skips);
    }

    #[test]
    fn the_results_of_several_harnesses_are_summed() {
        let output = "test a ... ok\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
            noise\n\
            test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 9 filtered out\n";
        check(output, 5, 4, 1, &[]);
    }

    #[test]
    fn failed_tests_are_named_with_their_messages() {
        let mut tests = Tests::default();
        tests.read(
            "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\n\
             thread 'b' (7) panicked at src/b.rs:1:2:\nboom\n\nfailures:\n    b\n\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored\n",
        );
        let shown =
            ["test b ... FAILED", "    thread 'b' (7) panicked at src/b.rs:1:2:", "    boom"];
        assert_eq!(tests.failures, shown);
        assert_eq!((tests.passed, tests.failed), (1, 1));
    }

    #[test]
    fn a_test_that_prints_skips_counts_as_skipped_once() {
        let output = "successes:\n\n\
            ---- a stdout ----\nSKIPPED: x (y)\nSKIPPED: z (y)\n\n\
            ---- b stdout ----\nhello\n\n\
            successes:\n    a\n    b\n\n\
            test result: ok. 2 passed; 0 failed; 0 ignored\n";
        check(output, 1, 0, 1, &["SKIPPED: x (y)", "SKIPPED: z (y)"]);
    }

    #[test]
    fn checks_omitted_on_purpose_are_no_skips() {
        let mut tests = Tests::default();
        let output = "successes:\n\n\
            ---- a stdout ----\nSKIPPED: x (y)\nSKIPPED: z (y)\n\n\
            test result: ok. 2 passed; 0 failed\n";
        tests.read_without(output, &["z"]);
        assert_eq!(
            (tests.passed, tests.skipped, tests.skips.as_slice()),
            (1, 1, &["SKIPPED: x (y)".to_owned()][..])
        );
        assert_eq!(tests.left_out.into_iter().collect::<Vec<_>>(), ["z (y)"]);
    }

    #[test]
    fn a_failed_test_that_prints_a_skip_counts_as_failed() {
        let output = "failures:\n\n\
            ---- a stdout ----\nSKIPPED: x (y)\n\n\
            test result: FAILED. 0 passed; 1 failed; 0 ignored\n";
        check(output, 0, 1, 0, &["SKIPPED: x (y)"]);
    }
}
