//! Copies from one mount to another inside the store that both are of: no data comes through this process.
//!
//! The mount that has the file tells what the other one needs to name it ([`UnderFileSystem::export`]); that one has its store copy
//! it ([`UnderFileSystem::import`]). What the file carries beside its bytes can also go along with a copy that somebody
//! carries from store to store ([`Carried`]).
//!
//! [`UnderFileSystem::export`]: crate::UnderFileSystem::export
//! [`UnderFileSystem::import`]: crate::UnderFileSystem::import

use crate::object::client::{ObjectMeta, Properties};
use crate::posix::BaseFile;

/// How a copy inside a store may be made. It matters for folders of this host: object stores copy by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// The two files share their blocks (reflink); no byte moves. Where the file system cannot, nothing is done.
    ByReference,
    /// The kernel of this host moves the bytes, if it has to.
    ByKernel,
}

/// A file of a mount, as another mount can name it.
#[derive(Debug)]
pub struct Export(pub(crate) Exported);

#[derive(Debug)]
pub(crate) enum Exported {
    /// An object, and where it is if its store copies it to other buckets.
    Object {
        place: Option<BucketPlace>,
        meta: Box<ObjectMeta>,
    },
    /// An open file.
    File(std::sync::Arc<BaseFile>),
}

/// A bucket as other buckets of its store name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketPlace {
    /// Equal for buckets between which a copy may be asked for.
    pub store: String,
    pub bucket: String,
}

/// What an object carries beside its bytes and what is said of the file: content type and its like, metadata of others, tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried(pub(crate) Properties);

impl Export {
    /// What goes along with a copy to another store. Not the storage class and the encryption: they are the target's.
    pub fn carried(&self) -> Option<Carried> {
        match &self.0 {
            Exported::Object { meta, .. } => Some(Carried(Properties {
                headers: unencrypted(&meta.properties),
                storage_class: String::new(),
                ..meta.properties.clone()
            })),
            Exported::File(_) => None,
        }
    }

    /// A file of this host.
    pub fn is_of_host(&self) -> bool {
        matches!(self.0, Exported::File(_))
    }
}

/// Headers but for those that say how the object is encrypted.
pub(crate) fn unencrypted(properties: &Properties) -> Vec<(String, String)> {
    let is_of_bytes = |name: &str| !name.starts_with("x-amz-server-side-encryption");
    let headers = properties.headers.iter().filter(|(name, _)| is_of_bytes(name));
    headers.cloned().collect()
}
