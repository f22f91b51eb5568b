//! Uploads of blobs that no line of the log refers to yet.

use std::collections::BTreeMap;

use crate::log::Token;
use crate::state::entry::JournalEntry;
use crate::state::ledger::Ledger;
use crate::transfer::{UploadRecord, UploadStep};

/// Upload of a blob.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) path: String,
    /// Multipart upload that another process can resume.
    pub(crate) record: Option<UploadRecord>,
    /// Set while this process uploads the blob or is about to refer to it.
    pub(crate) is_running: bool,
}

impl Ledger {
    pub(crate) fn uploads(&self) -> &BTreeMap<Token, Upload> {
        &self.uploads
    }

    /// Records a blob before its upload begins.
    pub(crate) fn set_uploading(&mut self, blob: Token, path: &str) {
        self.append(JournalEntry::Uploading { blob, path: path.to_owned() });
    }

    /// Records a step of a multipart upload.
    pub(crate) fn set_upload_step(&mut self, blob: Token, step: UploadStep<'_>) {
        match step {
            UploadStep::Begun(upload) => {
                self.append(JournalEntry::Parts { blob, upload: upload.clone() });
            }
            UploadStep::PartSent(part) => {
                self.append(JournalEntry::Part { blob, part: part.clone() });
            }
            // The blob stays recorded until a line refers to it.
            _ => {}
        }
    }

    /// Returns an upload of this path that an ended attempt has begun. It counts as running then.
    pub(crate) fn resume_upload(&mut self, path: &str) -> Option<(Token, UploadRecord)> {
        self.uploads.iter_mut().find_map(|(blob, upload)| {
            let record =
                upload.record.clone().filter(|_| !upload.is_running && upload.path == path)?;
            upload.is_running = true;
            Some((*blob, record))
        })
    }

    /// Ends an upload to which nothing refers yet. A multipart upload can be resumed.
    pub(crate) fn release_upload(&mut self, blob: Token) {
        match self.uploads.get_mut(&blob) {
            Some(upload) if upload.record.is_some() => upload.is_running = false,
            Some(_) => self.forget_upload(blob),
            None => {}
        }
    }

    /// Forgets an upload that nothing will refer to.
    pub(crate) fn forget_upload(&mut self, blob: Token) {
        if self.uploads.contains_key(&blob) {
            self.append(JournalEntry::Uploaded { blob });
        }
    }

    /// Forgets the uploads that earlier processes began and that cannot be resumed.
    pub(crate) fn forget_ended_uploads(&mut self) {
        let ended = self.uploads.iter().filter(|(_, upload)| upload.record.is_none());
        let ended: Vec<Token> = ended.map(|(blob, _)| *blob).collect();
        ended.into_iter().for_each(|blob| self.forget_upload(blob));
    }

    /// Forgets all uploads, and returns those that the store may still hold parts of.
    pub(crate) fn forget_uploads(&mut self) -> Vec<UploadRecord> {
        let uploads = self.uploads.clone();
        uploads.keys().for_each(|blob| self.forget_upload(*blob));
        uploads.into_values().filter_map(|upload| upload.record).collect()
    }
}
