//! The skills of a session as resources, and their entries for clients that know skills (SEP-2640):
//! `skill://<name>/<path>` for a file of a skill.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rmcp::ErrorData;
use rmcp::model::{
    DIRECTORY_MIME_TYPE, ListResourcesResult, ReadResourceResult, Resource, ResourceContents,
    SKILL_MD, Skill, SkillResource, SkillResources,
};
use sandbox_core::{FileKind, RelativePath};
use skill_store::{FrontMatter, InstalledSkill, SKILLS_DIRECTORY};

use crate::error_kind::ErrorKind;
use crate::files::{ListOptions, ListedEntry};
use crate::printable::printable;
use crate::session::Session;
use crate::tools::read_file::ByteRange;

const SCHEME: &str = "skill://";
const MARKDOWN: &str = "text/markdown";
/// Bytes that a path in a URI has as they are (RFC 3986, section 2.3), and the separator.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// The maximum number of files of a skill with an entry. Clients need not load larger ones.
const MAX_FILES: usize = 512;
/// The maximum size of the files of such a skill in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Lists the SKILL.md of each skill that has one, because an agent may have removed it.
pub(super) async fn list(session: &Session) -> ListResourcesResult {
    let mut resources = Vec::new();
    for skill in session.current_skills().await {
        let name = skill.name.to_string();
        let path = format!("{name}/{SKILL_MD}");
        if matches!(session.exists(&in_session(&path)).await, Ok(false)) {
            continue;
        }
        let resource = Resource::new(uri_of(&path), name).with_mime_type(MARKDOWN);
        resources.push(match skill.description {
            Some(description) => resource.with_description(description),
            None => resource,
        });
    }
    ListResourcesResult::with_all_items(resources)
}

/// Reads a file of a skill.
pub(super) async fn read(session: &Session, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let unknown = || {
        ErrorData::resource_not_found(format!("there is no resource {}", shown(session, uri)), None)
    };
    let path = path_of(session, uri).await;
    let path = path.filter(|path| path.contains('/')).ok_or_else(unknown)?;
    match session.read_file(&in_session(&path)).await {
        Ok(output) => {
            let contents = match output.encoding {
                None => ResourceContents::text(output.content, uri),
                Some(_) => ResourceContents::blob(output.content, uri),
            };
            let media_type = match path.ends_with(".md") {
                true => Some(MARKDOWN.to_owned()),
                false => output.media_type,
            };
            Ok(ReadResourceResult::new(vec![match media_type {
                Some(media_type) => contents.with_mime_type(media_type),
                None => contents,
            }]))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(unknown()),
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Denied) => {
            Err(ErrorData::invalid_params(error.message(), None))
        }
        Err(error) => Err(ErrorData::internal_error(error.message(), None)),
    }
}

/// Lists the direct children of a directory of a skill.
pub(super) async fn read_directory(
    session: &Session,
    uri: &str,
) -> Result<ListResourcesResult, ErrorData> {
    let unknown = || {
        let uri = shown(session, uri);
        ErrorData::invalid_params(format!("there is no directory {uri} of a skill"), None)
    };
    let path = path_of(session, uri.trim_end_matches('/')).await.ok_or_else(unknown)?;
    let entries = entries(session, &path).await.ok_or_else(unknown)?;
    let resources = entries.into_iter().filter_map(|ListedEntry { name, stat, .. }| {
        let uri = uri_of(&format!("{path}/{name}"));
        let media_type = match stat.kind {
            FileKind::Directory => Some(DIRECTORY_MIME_TYPE),
            FileKind::File if name.ends_with(".md") => Some(MARKDOWN),
            FileKind::File => None,
            _ => return None,
        };
        let resource = Resource::new(uri, name);
        Some(match media_type {
            Some(media_type) => resource.with_mime_type(media_type),
            None => resource,
        })
    });
    Ok(ListResourcesResult::with_all_items(resources.collect()))
}

/// Returns the entries of the skills that have one.
pub(super) async fn skills(session: &Session) -> Vec<Skill> {
    let mut found = Vec::new();
    for skill in session.current_skills().await {
        found.extend(entry(session, &skill).await);
    }
    found
}

/// Returns the entry of the skill with this SKILL.md.
pub(super) async fn skill(session: &Session, uri: &str) -> Result<Skill, ErrorData> {
    let path = path_of(session, uri).await;
    let name = path.as_deref().and_then(|path| path.strip_suffix(SKILL_MD)?.strip_suffix('/'));
    let installed = session.skills();
    let known = installed.iter().find(|known| Some(known.name.as_ref()) == name);
    let found = match known {
        Some(known) => entry(session, known).await,
        None => None,
    };
    // The entry has the URI as this server spells it, and the client expects its own.
    found.filter(|skill| skill.uri == uri).ok_or_else(|| {
        ErrorData::invalid_params(format!("there is no skill {}", shown(session, uri)), None)
    })
}

/// Returns the entry of a skill as it is now. A skill that breaks the specification, is too large
/// or cannot be read has none. Its description is the published one, because the model reads that
/// without asking, and an agent may have changed the file.
async fn entry(session: &Session, installed: &InstalledSkill) -> Option<Skill> {
    let name: &str = installed.name.as_ref();
    let (mut files, mut bytes) = (Vec::new(), 0);
    let mut front_matter = None;
    let mut directories = vec![name.to_owned()];
    while let Some(directory) = directories.pop() {
        for ListedEntry { name: child, stat, .. } in entries(session, &directory).await? {
            let path = format!("{directory}/{child}");
            match stat.kind {
                FileKind::File => {}
                FileKind::Directory => {
                    directories.push(path);
                    continue;
                }
                _ => continue,
            }
            bytes += stat.size;
            if files.len() == MAX_FILES || bytes > MAX_BYTES {
                return None;
            }
            let content = content(session, &path).await?;
            if directory == name && child == SKILL_MD {
                front_matter = FrontMatter::fields(&content).ok();
            }
            files.push(SkillResource::from_bytes(uri_of(&path), &content));
        }
        // Without an end, an agent could let the client wait.
        if directories.len() > MAX_FILES {
            return None;
        }
    }
    files.sort_by(|a, b| a.uri.cmp(&b.uri));
    let mut front_matter = front_matter?;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let now = front_matter.get("description").and_then(|text| text.as_str()).map(words);
    if let Some(published) = &installed.description
        && now != Some(words(published))
    {
        front_matter.insert("description".to_owned(), published.clone().into());
    }
    let front_matter = serde_json::from_value(front_matter.into()).ok()?;
    let uri = uri_of(&format!("{name}/{SKILL_MD}"));
    let skill = Skill::new(uri, front_matter, SkillResources::Files(files));
    skill.validate().is_ok().then_some(skill)
}

/// Reads a file as it is, with the values of variables: the digest is that of the skill.
async fn content(session: &Session, path: &str) -> Option<Vec<u8>> {
    let (mut content, path) = (Vec::new(), in_session(path));
    loop {
        let range = ByteRange { start: content.len() as u64, end: None };
        let part = session.read_range(&path, range).await.ok()?;
        let is_last = part.bytes.is_empty();
        content.extend(part.bytes);
        if is_last || content.len() as u64 >= part.total_bytes {
            return Some(content);
        }
        if content.len() as u64 > MAX_BYTES {
            return None;
        }
    }
}

/// Lists a whole directory of a skill.
async fn entries(session: &Session, path: &str) -> Option<Vec<ListedEntry>> {
    let (mut options, mut entries) = (ListOptions::default(), Vec::new());
    loop {
        let page = session.list(&in_session(path), options.clone()).await.ok()?;
        entries.extend(page.entries);
        if page.next.is_none() || entries.len() > 8 * MAX_FILES {
            return Some(entries);
        }
        options.after = page.next;
    }
}

/// Returns the path below the directory of skills that a URI names, if its skill is installed.
async fn path_of(session: &Session, uri: &str) -> Option<String> {
    let path = percent_decode_str(uri.strip_prefix(SCHEME)?).decode_utf8().ok()?;
    let name = path.split('/').next()?;
    let installed = session.current_skills().await;
    let is_installed = installed.iter().any(|skill| skill.name.to_string() == name);
    // A path with `..` would lead to other files of the session.
    (is_installed && RelativePath::parse(&path).is_ok()).then(|| path.into_owned())
}

fn uri_of(path: &str) -> String {
    format!("{SCHEME}{}", utf8_percent_encode(path, ENCODED))
}

fn in_session(path: &str) -> String {
    format!("{SKILLS_DIRECTORY}/{path}")
}

/// Returns a URI as an error may repeat it.
fn shown(session: &Session, uri: &str) -> String {
    let shown = session.echo(uri);
    shown.map_or_else(|| "of that URI".to_owned(), |uri| printable(&uri).into())
}
