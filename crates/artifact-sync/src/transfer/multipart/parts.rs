//! Parts of one file on their way to the store.

use std::fs::File;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{Attributes, Error, MultipartUpload, PutMultipartOptions, PutResult};
use sandbox_core::internal::blocking;

use super::{OnStep, PART_BYTES, PartRecord, UploadRecord, UploadStep};
use crate::log::Hash;
use crate::scan::Signature;
use crate::transfer::budget::{MemoryBudget, Reserved};
use crate::transfer::content::read_into;

/// Most parts of an upload, on S3 and GCS.
const MAX_PARTS: u64 = 10_000;
/// Concurrent parts of one file.
const PARTS_AT_ONCE: usize = 3;

/// Reason for which an upload stopped.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The file does not begin with what an earlier process sent.
    OtherContent,
    FileChanged,
    Read(io::Error),
    Store(Error),
}

/// File to upload.
#[derive(Debug)]
pub(super) struct Content<'b> {
    pub(super) file: Arc<File>,
    /// Signature before the file is read.
    pub(super) signature: Signature,
    pub(super) budget: &'b MemoryBudget,
}

impl Content<'_> {
    /// Reads a part and continues the hash with it.
    pub(super) async fn read(
        &self,
        offset: u64,
        length: u64,
        mut hasher: blake3::Hasher,
    ) -> Result<(Bytes, blake3::Hasher), Stopped> {
        let file = Arc::clone(&self.file);
        let mut part = self.budget.buffer(usize::try_from(length).unwrap_or(usize::MAX));
        let read = blocking(move || {
            let filled = read_into(&file, offset, &mut part)?;
            hasher.update(&part[..filled]);
            Ok((part, filled, hasher))
        });
        let (part, filled, hasher) = read.await.map_err(Stopped::Read)?;
        if filled == part.len() { Ok((part.freeze(), hasher)) } else { Err(Stopped::FileChanged) }
    }

    /// Checks that the file is still as it was when it was opened.
    pub(super) fn check(&self) -> Result<(), Stopped> {
        match Signature::of(&self.file) {
            Ok(signature) if signature == self.signature => Ok(()),
            Ok(_) => Err(Stopped::FileChanged),
            Err(error) => Err(Stopped::Read(error)),
        }
    }
}

/// Upload that has a name in the store.
pub(super) struct Upload<'u> {
    pub(super) multipart: &'u dyn MultipartStore,
    pub(super) key: &'u Key,
    pub(super) content: &'u Content<'u>,
    pub(super) on_step: OnStep<'u>,
}

impl Upload<'_> {
    pub(super) async fn begin(&self, attributes: Attributes) -> Result<UploadRecord, Error> {
        let bytes = self.content.signature.size;
        let record = UploadRecord {
            key: self.key.as_ref().to_owned(),
            upload_id: create(self.multipart, self.key, attributes).await?,
            bytes,
            part_bytes: part_bytes(bytes),
            parts: Vec::new(),
        };
        (self.on_step)(UploadStep::Begun(&record));
        Ok(record)
    }

    /// Sends the parts that the record lacks, and completes the upload.
    pub(super) async fn run(
        &self,
        record: &mut UploadRecord,
    ) -> Result<(blake3::Hash, PutResult), Stopped> {
        let mut sending = FuturesUnordered::new();
        let sent = self.send_parts(record, &mut sending).await;
        // A part that arrives after an abort would stay in the store.
        while let Some(part) = sending.next().await {
            self.note(part, record)?;
        }
        let hash = sent?;
        self.content.check()?;
        let parts = record.part_ids().ok_or(Stopped::FileChanged)?;
        let completed = self.multipart.complete_multipart(self.key, &record.upload_id, parts).await;
        let put = completed.map_err(Stopped::Store)?;
        (self.on_step)(UploadStep::Ended);
        Ok((hash, put))
    }

    async fn send_parts<'s>(
        &'s self,
        record: &mut UploadRecord,
        sending: &mut FuturesUnordered<BoxFuture<'s, Result<PartRecord, Error>>>,
    ) -> Result<blake3::Hash, Stopped> {
        let mut hasher = blake3::Hasher::new();
        for number in 0..record.part_count() {
            if sending.len() == PARTS_AT_ONCE
                && let Some(part) = sending.next().await
            {
                self.note(part, record)?;
            }
            let offset = number * record.part_bytes;
            let length = record.part_bytes.min(record.bytes - offset);
            let memory =
                reserve(self.content.budget, length, sending, |part| self.note(part, record))
                    .await?;
            let part;
            (part, hasher) = self.content.read(offset, length, hasher).await?;
            let hash = hasher.finalize().to_hex().to_string();
            if let Some(earlier) = record.part(number) {
                if earlier.hash != hash {
                    return Err(Stopped::OtherContent);
                }
                self.content.budget.recycle(part);
                continue;
            }
            let upload_id = record.upload_id.clone();
            sending.push(Box::pin(async move {
                let index = number as usize;
                let payload = part.clone().into();
                let sent = self.multipart.put_part(self.key, &upload_id, index, payload).await;
                self.content.budget.recycle(part);
                drop(memory);
                let PartId { content_id: part_id } = sent?;
                self.content.budget.count_sent();
                Ok(PartRecord { number, part_id, hash })
            }));
        }
        Ok(hasher.finalize())
    }

    fn note(
        &self,
        part: Result<PartRecord, Error>,
        record: &mut UploadRecord,
    ) -> Result<(), Stopped> {
        let part = part.map_err(Stopped::Store)?;
        (self.on_step)(UploadStep::PartSent(&part));
        record.parts.push(part);
        Ok(())
    }
}

/// Sends a file as an upload without a name. Completes it if the content has the expected hash.
pub(super) async fn send_anonymous(
    mut upload: Box<dyn MultipartUpload>,
    content: &Content<'_>,
    expected: Option<Hash>,
) -> Result<(blake3::Hash, PutResult), Stopped> {
    let stopped = match send_anonymous_parts(upload.as_mut(), content).await {
        Ok(hash) if expected.is_none_or(|expected| expected == hash.into()) => {
            match upload.complete().await {
                Ok(put) => return Ok((hash, put)),
                Err(error) => Stopped::Store(error),
            }
        }
        Ok(_) => Stopped::FileChanged,
        Err(stopped) => stopped,
    };
    // If this fails, the bucket's lifecycle rules remove the parts.
    if let Err(error) = upload.abort().await {
        tracing::warn!(%error, "cannot abort an upload");
    }
    Err(stopped)
}

async fn send_anonymous_parts(
    upload: &mut dyn MultipartUpload,
    content: &Content<'_>,
) -> Result<blake3::Hash, Stopped> {
    let (mut hasher, mut sending, mut offset) = (blake3::Hasher::new(), FuturesUnordered::new(), 0);
    let part_bytes = part_bytes(content.signature.size);
    let note = |sent: Result<(), Error>| sent.map_err(Stopped::Store);
    while offset < content.signature.size {
        if sending.len() == PARTS_AT_ONCE
            && let Some(sent) = sending.next().await
        {
            note(sent)?;
        }
        let length = part_bytes.min(content.signature.size - offset);
        let memory = reserve(content.budget, length, &mut sending, note).await?;
        let part;
        (part, hasher) = content.read(offset, length, hasher).await?;
        offset += length;
        let sending_part = upload.put_part(part.clone().into());
        sending.push(async move {
            let sent = sending_part.await;
            content.budget.recycle(part);
            drop(memory);
            sent.inspect(|()| content.budget.count_sent())
        });
    }
    while let Some(sent) = sending.next().await {
        note(sent)?;
    }
    content.check()?;
    Ok(hasher.finalize())
}

/// Waits for memory for a part while earlier parts are being sent. They hold memory that others may
/// wait for.
async fn reserve<T>(
    budget: &MemoryBudget,
    bytes: u64,
    sending: &mut FuturesUnordered<impl Future<Output = T>>,
    mut note: impl FnMut(T) -> Result<(), Stopped>,
) -> Result<Reserved, Stopped> {
    let mut reserved = pin!(budget.reserve(bytes));
    loop {
        tokio::select! {
            biased;
            memory = &mut reserved => return Ok(memory),
            Some(sent) = sending.next() => note(sent)?,
        }
    }
}

async fn create(
    multipart: &dyn MultipartStore,
    key: &Key,
    attributes: Attributes,
) -> Result<String, Error> {
    let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
    match multipart.create_multipart_opts(key, options).await {
        Err(error) if lacks_support(&error) => multipart.create_multipart(key).await,
        other => other,
    }
}

/// Returns whether a store does not support the attributes of an object.
pub(super) fn lacks_support(error: &Error) -> bool {
    matches!(error, Error::NotImplemented { .. } | Error::NotSupported { .. })
}

/// Returns the size of the parts. It grows for files that would have too many parts.
fn part_bytes(bytes: u64) -> u64 {
    PART_BYTES.max(bytes.div_ceil(MAX_PARTS))
}
