//! Warnings about the opening of a session's files.

use artifact_sync::RestoreReport;
use sandbox_core::SessionId;

use crate::output::ConflictNote;

/// The maximum number of conflicts from opening that warnings name.
const MAX_CONFLICTS_WARNED: usize = 5;

/// Renders the result of opening a mirror as warnings for the first call.
pub(super) fn warnings(id: &SessionId, opened: &RestoreReport) -> Vec<String> {
    let conflicts = opened.conflicts.iter().take(MAX_CONFLICTS_WARNED);
    let conflicts =
        conflicts.map(|conflict| ConflictNote::new(&conflict.path, &conflict.kept_as).to_string());
    let omitted = opened.conflicts.len().saturating_sub(MAX_CONFLICTS_WARNED);
    let omitted = (omitted > 0).then(|| format!("changed on both sides: {omitted} more files"));
    let remedy = (!opened.held_back.is_empty()).then(|| {
        format!("`agent-tools session sync {id} --confirm-removals` removes the vanished files")
    });
    opened.problems().into_iter().chain(remedy).chain(conflicts).chain(omitted).collect()
}
