//! Output that is too long for a result, kept in files that the agent can read.

use std::collections::VecDeque;

use sandbox_core::{FileError, RelativePath, SessionDir};

/// The directory of the files, below the directory for temporary files.
const DIRECTORY: &str = ".agent-tools/output";
/// The maximum number of files. The oldest is deleted first.
const MAX_FILES: usize = 20;
/// The maximum size of all files.
const MAX_BYTES: usize = 128 << 20;

/// The files of one session, which end with its sandbox.
#[derive(Debug, Default)]
pub(crate) struct KeptOutputs {
    last: u64,
    files: VecDeque<(RelativePath, usize)>,
}

impl KeptOutputs {
    /// Writes a file, and deletes older ones until all are within the limits. Returns the path of
    /// the file below the directory for temporary files.
    pub(crate) fn keep(
        &mut self,
        dir: &SessionDir,
        content: &[u8],
    ) -> Result<RelativePath, FileError> {
        let taken =
            |files: &VecDeque<(_, usize)>| files.iter().map(|(_, size)| size).sum::<usize>();
        while self.files.len() >= MAX_FILES || taken(&self.files) + content.len() > MAX_BYTES {
            let Some((oldest, _)) = self.files.pop_front() else { break };
            // A command may have removed or replaced it.
            let _ = dir.remove(&oldest);
        }
        self.last += 1;
        let path = RelativePath::parse(&format!("{DIRECTORY}/{}.txt", self.last))
            .expect("the path is short and plain");
        dir.write(&path, content)?;
        self.files.push_back((path.clone(), content.len()));
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_files_are_deleted() {
        let root = tempfile::tempdir().unwrap();
        let dir = SessionDir::create(&root.path().join("tmp")).unwrap();
        let mut kept = KeptOutputs::default();
        for number in 1..=25 {
            let path = kept.keep(&dir, format!("{number}").as_bytes()).unwrap();
            assert_eq!(path.as_str(), format!(".agent-tools/output/{number}.txt"));
        }
        let count = || std::fs::read_dir(dir.path().join(DIRECTORY)).unwrap().count();
        assert_eq!(count(), MAX_FILES);
        assert!(!dir.path().join(DIRECTORY).join("5.txt").exists());
        // The agent has deleted a file, and a large one takes the place of several.
        std::fs::remove_file(dir.path().join(DIRECTORY).join("6.txt")).unwrap();
        kept.files.iter_mut().for_each(|(_, size)| *size = MAX_BYTES / 4);
        kept.keep(&dir, &vec![0; MAX_BYTES / 2 + 1]).unwrap();
        assert_eq!((count(), kept.files.len()), (2, 2));
    }
}
