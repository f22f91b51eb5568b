//! The streams of a command as its result shows them.

use std::path::Path;
use std::sync::Arc;

use sandbox_core::internal::lock;
use sandbox_core::{CapturedStream, FileError, SessionDir, Tier, with_causes};

use crate::engine::Engine;
use crate::output::{DisplayedStream, KeptOutputs, for_display, for_reference};
use crate::redaction::Redaction;
use crate::rules::Rules;
use crate::session::{INLINE_BYTES, LocalSession, blocking};
use crate::tool_error::ToolError;

impl LocalSession {
    /// Renders a stream, and keeps it in a file if it is longer than `max_units` UTF-16 units.
    pub(super) async fn display(
        &self,
        name: &'static str,
        stream: CapturedStream,
        max_units: usize,
        sandbox: &Arc<dyn Engine>,
        redaction: &mut Redaction<'_>,
    ) -> Result<DisplayedStream, ToolError> {
        let outputs = Arc::clone(&self.outputs);
        let (tier, sandbox) = (self.tier().clone(), Arc::clone(sandbox));
        let is_small = stream.bytes.len() <= INLINE_BYTES;
        let (keeps_output, rules) = (self.keeps_output(), self.rules());
        let keep = move |content: &[u8]| match keeps_output {
            true => keep(&mut lock(&outputs), &*sandbox, &tier, content)
                .map_err(|reason| format!("it could not be kept: {reason}")),
            false => Err("it is not kept: its sandbox ends with the command".to_owned()),
        };
        let show = move |redaction: &mut Redaction<'_>| match rules {
            Rules::Reference => for_reference(name, &stream, max_units, redaction),
            Rules::Standard => for_display(name, &stream, max_units, redaction, keep),
        };
        if is_small {
            return Ok(show(redaction));
        }
        let redactor = redaction.redactor().cloned();
        let show_all = move || {
            let mut redaction = Redaction::new(redactor.as_ref());
            let shown = show(&mut redaction);
            (shown, redaction.into_names())
        };
        let (shown, names) = blocking(show_all).await?;
        redaction.note(names);
        Ok(shown)
    }
}

/// Keeps a whole stream in a file that commands can read. Returns its path, or the reason of a
/// failure.
fn keep(
    outputs: &mut KeptOutputs,
    sandbox: &dyn Engine,
    tier: &Tier,
    content: &[u8],
) -> Result<String, String> {
    let keep = |outputs: &mut KeptOutputs, files: &SessionDir, dir: &Path| {
        let path = outputs.keep(files, content)?;
        Ok(dir.join(path.as_str()).to_string_lossy().into_owned())
    };
    let dir = sandbox.temporary_dir();
    let kept: Result<String, FileError> = match (sandbox.own_tmp(), tier) {
        (Some(files), _) => keep(outputs, files, dir),
        (None, Tier::Landlock { .. }) => {
            SessionDir::open(dir).and_then(|files| keep(outputs, &files, dir))
        }
        // Other programs use this directory too.
        (None, _) => return Err("the session has no /tmp of its own".to_owned()),
    };
    kept.map_err(|error| with_causes(&error))
}
