//! Versions of objects.

use object_store::{ObjectMeta, PutResult};
use serde::{Deserialize, Serialize};

/// Identity of one version of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) etag: Option<String>,
    /// Generation number, on stores that have one (GCS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
}

impl Version {
    /// Returns whether both are known to be the same version.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.etag.is_some() && self.etag == other.etag
    }
}

impl From<&ObjectMeta> for Version {
    fn from(meta: &ObjectMeta) -> Self {
        Self { etag: meta.e_tag.clone(), version: meta.version.clone() }
    }
}

impl From<PutResult> for Version {
    fn from(put: PutResult) -> Self {
        Self { etag: put.e_tag, version: put.version }
    }
}
