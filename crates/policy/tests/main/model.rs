//! A file system in memory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use policy::{NodeKind, Tree};

/// Directories, files, and symlinks with absolute targets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    nodes: BTreeMap<PathBuf, Option<Target>>,
}

#[derive(Clone, Debug)]
enum Target {
    File(String),
    Link(PathBuf),
}

impl Model {
    pub(crate) fn dir(mut self, path: &str) -> Self {
        for above in Path::new(path).ancestors() {
            self.nodes.entry(above.to_owned()).or_insert(None);
        }
        self
    }

    pub(crate) fn file(self, path: &str) -> Self {
        self.file_with(path, "")
    }

    pub(crate) fn file_with(self, path: &str, content: &str) -> Self {
        let mut model = self.dir(Path::new(path).parent().unwrap().to_str().unwrap());
        model.nodes.entry(path.into()).or_insert(Some(Target::File(content.to_owned())));
        model
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        let mut model = self.dir(Path::new(path).parent().unwrap().to_str().unwrap());
        model.nodes.insert(path.into(), Some(Target::Link(target.into())));
        model
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.nodes.keys().map(PathBuf::as_path)
    }
}

fn kind(node: Option<&Target>) -> NodeKind {
    match node {
        None => NodeKind::Directory,
        Some(Target::File(_)) => NodeKind::File,
        Some(Target::Link(_)) => NodeKind::Symlink,
    }
}

impl Tree for Model {
    fn kind(&self, path: &Path) -> io::Result<Option<NodeKind>> {
        let parent = match path.parent() {
            Some(parent) => match self.canonicalize(parent) {
                Ok(parent) => parent.join(path.file_name().unwrap_or_default()),
                Err(_) => return Ok(None),
            },
            None => path.to_owned(),
        };
        Ok(self.nodes.get(&parent).map(|node| kind(node.as_ref())))
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        let mut resolved = PathBuf::from("/");
        for component in path.components().skip(1) {
            resolved.push(component);
            match self.nodes.get(&resolved) {
                None => return Err(io::ErrorKind::NotFound.into()),
                Some(Some(Target::Link(target))) => resolved = self.canonicalize(target)?,
                Some(_) => {}
            }
        }
        Ok(resolved)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        match self.nodes.get(path) {
            Some(Some(Target::Link(target))) => Ok(target.clone()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<(OsString, NodeKind)>> {
        Ok(self
            .nodes
            .iter()
            .filter(|(node_path, _)| node_path.parent() == Some(path))
            .filter_map(|(path, node)| Some((path.file_name()?.to_owned(), kind(node.as_ref()))))
            .collect())
    }

    fn read_start(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        match self.nodes.get(path) {
            Some(Some(Target::File(content))) => {
                Ok(content.as_bytes()[..content.len().min(max)].to_vec())
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
