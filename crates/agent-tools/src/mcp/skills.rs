//! The skills of a session as resources: `skill://<name>/<path>` for a file of a skill.

use rmcp::ErrorData;
use rmcp::model::{ListResourcesResult, ReadResourceResult, Resource, ResourceContents};
use sandbox_core::RelativePath;
use skill_store::SKILLS_DIRECTORY;

use crate::error_kind::ErrorKind;
use crate::printable::printable;
use crate::session::Session;

const SCHEME: &str = "skill://";
/// The file that a client reads first.
const SKILL_FILE: &str = "SKILL.md";
/// The character of a skill's name that a URI cannot have, and its escape.
const SPACE: (&str, &str) = (" ", "%20");

/// Lists the SKILL.md of each skill.
pub(super) fn list(session: &Session) -> ListResourcesResult {
    let skills = session.skills();
    let resources = skills.iter().map(|skill| {
        let name = skill.name.to_string();
        let uri = format!("{SCHEME}{}/{SKILL_FILE}", name.replace(SPACE.0, SPACE.1));
        let resource = Resource::new(uri, name).with_mime_type("text/markdown");
        match &skill.description {
            Some(description) => resource.with_description(description.clone()),
            None => resource,
        }
    });
    ListResourcesResult::with_all_items(resources.collect())
}

/// Reads a file of a skill.
pub(super) async fn read(session: &Session, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let unknown = || {
        let shown = session.echo(uri);
        let shown = shown.map_or_else(|| "of that URI".to_owned(), |uri| printable(&uri).into());
        ErrorData::resource_not_found(format!("there is no resource {shown}"), None)
    };
    let path = uri.strip_prefix(SCHEME).ok_or_else(unknown)?.replace(SPACE.1, SPACE.0);
    let (name, _) = path.split_once('/').ok_or_else(unknown)?;
    let is_installed = session.skills().iter().any(|skill| skill.name.to_string() == name);
    // A path with `..` would lead to other files of the session.
    if !is_installed || RelativePath::parse(&path).is_err() {
        return Err(unknown());
    }
    match session.read_file(&format!("{SKILLS_DIRECTORY}/{path}")).await {
        Ok(output) => {
            let contents = match output.encoding {
                None => ResourceContents::text(output.content, uri),
                Some(_) => ResourceContents::blob(output.content, uri),
            };
            let media_type = match path.ends_with(".md") {
                true => Some("text/markdown".to_owned()),
                false => output.media_type,
            };
            Ok(ReadResourceResult::new(vec![match media_type {
                Some(media_type) => contents.with_mime_type(media_type),
                None => contents,
            }]))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(unknown()),
        Err(error) => Err(ErrorData::internal_error(error.message(), None)),
    }
}
