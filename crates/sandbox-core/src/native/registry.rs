//! The commands that were wrapped last, by number.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::sandbox::CommandSpec;

/// Maximum number of commands that are kept. Adding another one drops the oldest.
pub(super) const MAX_COMMANDS: usize = 4_096;

/// Numbered commands. Each operation takes constant time.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// The command with the number `first`, and those with the numbers after it.
    commands: VecDeque<Arc<CommandSpec>>,
    first: u64,
    /// The latest number of each command.
    numbers: HashMap<Arc<CommandSpec>, u64>,
}

impl Registry {
    /// Returns the number of a command. A command that would soon be dropped gets another one, so
    /// at least half of [`MAX_COMMANDS`] can be added before its number is invalid.
    pub(super) fn number(&mut self, spec: &CommandSpec) -> u64 {
        let known = self.numbers.get_key_value(spec).map(|(spec, number)| (spec.clone(), *number));
        let spec = match known {
            Some((_, number)) if number - self.first >= self.commands.len() as u64 / 2 => {
                return number;
            }
            Some((spec, _)) => spec,
            None => Arc::new(spec.clone()),
        };
        if self.commands.len() == MAX_COMMANDS {
            self.drop_oldest();
        }
        let number = self.first + self.commands.len() as u64;
        self.commands.push_back(Arc::clone(&spec));
        self.numbers.insert(spec, number);
        number
    }

    /// Returns a command, or `None` if it was dropped.
    pub(super) fn command(&self, number: u64) -> Option<Arc<CommandSpec>> {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok())?;
        self.commands.get(index).cloned()
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.commands.pop_front() {
            if self.numbers.get(&oldest) == Some(&self.first) {
                self.numbers.remove(&oldest);
            }
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_valid_until_thousands_of_others_were_given() {
        let mut registry = Registry::default();
        let kept = CommandSpec::new("kept");
        let first = registry.number(&kept);
        let mut latest = first;
        for other in 0..20_000 {
            let number = registry.number(&CommandSpec::new(other.to_string()));
            assert_eq!(registry.command(number).unwrap().command, other.to_string());
            if other % 1_000 == 0 {
                latest = registry.number(&kept);
            }
            assert_eq!(registry.command(latest).unwrap().command, "kept");
        }
        assert!(registry.command(first).is_none() && registry.command(u64::MAX).is_none());
        assert!(registry.commands.len() <= MAX_COMMANDS);
        assert!(registry.numbers.len() <= MAX_COMMANDS);
    }

    #[test]
    fn a_command_that_is_wrapped_again_keeps_its_number_for_a_while() {
        let mut registry = Registry::default();
        let [a, b] = ["a", "b"].map(CommandSpec::new);
        let numbers = [registry.number(&a), registry.number(&b), registry.number(&b)];
        assert_eq!((numbers, registry.commands.len()), ([0, 1, 1], 2));
    }
}
