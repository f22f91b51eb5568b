//! Abilities of a store beyond the interface of `ObjectStore`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;

use crate::transfer::deletion::ConditionalDelete;

/// Abilities that a store loses as `Arc<dyn ObjectStore>`.
///
/// The default is a store of which nothing more is known. Everything works with it, but with more
/// requests or weaker guarantees. The fields must belong to the same store as the
/// `Arc<dyn ObjectStore>` they accompany.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct StoreCapabilities {
    /// Multipart uploads that another process can resume.
    pub multipart: Option<Arc<dyn MultipartStore>>,
    /// Listings by page, which continue after an invalid key.
    pub pages: Option<Arc<dyn PaginatedListStore>>,
    /// Deletion of an object only if it still has one version.
    pub conditional_delete: Option<Arc<dyn ConditionalDelete>>,
    /// Root directory of a store on the local disk.
    pub root: Option<PathBuf>,
    /// The same store on the local disk, whose puts return when the disk has the object.
    pub flushing: Option<Arc<dyn ObjectStore>>,
}

impl fmt::Debug for StoreCapabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCapabilities")
            .field("multipart", &self.multipart.is_some())
            .field("pages", &self.pages.is_some())
            .field("conditional_delete", &self.conditional_delete)
            .field("root", &self.root)
            .field("flushing", &self.flushing.is_some())
            .finish()
    }
}
