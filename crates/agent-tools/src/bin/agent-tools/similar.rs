//! Similar names, for messages about a name that does not exist.

use agent_tools::{Home, SessionId, WorkspaceError};

use crate::failure::Failure;

/// Returns the failure of a request about a session that is not on this machine.
pub(crate) fn found<T>(
    home: &Home,
    id: &SessionId,
    result: Result<T, WorkspaceError>,
) -> Result<T, Failure> {
    result.map_err(|error| {
        let is_absent = matches!(error, WorkspaceError::NoSession { .. });
        let failure = Failure::failed(error);
        if is_absent { with_question(home, id, failure) } else { failure }
    })
}

/// Adds the question whether the most similar session was meant to the failure of an absent one.
pub(crate) fn with_question(home: &Home, id: &SessionId, failure: Failure) -> Failure {
    match question(home, id) {
        Some(question) => failure.with_remedy(&question),
        None => failure,
    }
}

/// Asks whether the most similar session on this machine was meant, if one is similar.
pub(crate) fn question(home: &Home, id: &SessionId) -> Option<String> {
    let known = home.sessions().unwrap_or_default();
    let similar = known.iter().map(|known| (distance(id.as_str(), known.as_str()), known));
    let (_, nearest) = similar.filter(|(distance, known)| is_near(*distance, known)).min()?;
    Some(format!("did you mean {nearest}?"))
}

fn is_near(distance: usize, known: &SessionId) -> bool {
    distance <= 1 + known.as_str().len() / 5
}

/// Returns the number of letters to change, add or remove (Levenshtein).
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (place, same) in other.iter().map(|found| *found == letter).enumerate() {
            let replaced = diagonal + usize::from(!same);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(row[place] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
