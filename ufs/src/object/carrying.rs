//! What an object carries beside its bytes, and what of it goes on to the object that replaces it.
//!
//! Carried on: Content-Type, Cache-Control and their like, user metadata of others, tags, the storage class. What is said of the file
//! (ours, and what rclone and s3fs note) is said anew by each write; the rest of it would be wrong after it.

use super::ObjectUfs;
use super::client::{Metadata, Properties};
use crate::{BaseObject, Expect, UfsErrorKind, UfsResult, path};

impl ObjectUfs {
    /// Properties of an object that is written: `ours`, and what the one before it carried.
    pub(super) async fn properties_over(
        &self,
        path: &[u8],
        key: &str,
        base: Option<&BaseObject>,
        expect: &Expect,
        ours: Metadata,
    ) -> UfsResult<Properties> {
        // A file that was renamed and edited before it was stored is made over an object of another name.
        let source = match base {
            Some(base) => self.key(&base.path)?,
            None if *expect == Expect::Absent => return Ok(self.merged_metadata(path, &Metadata::new(), ours).into()),
            None => key.to_owned(),
        };
        match self.client.describe(&source).await {
            Ok(meta) => Ok(Properties {
                metadata: self.merged_metadata(path, &meta.properties.metadata, ours),
                ..meta.properties
            }),
            // Whether it has to be there is for the write to find out.
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(ours.into()),
            // Who may write and not read goes on as before: the object is new to him.
            Err(error) if error.kind == UfsErrorKind::Denied => {
                tracing::warn!(
                    path = %path::show(path), %error,
                    "what the replaced object carries (content type, tags and the like) cannot be read, and is not kept"
                );
                Ok(ours.into())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::attributes::Policy;
    use super::super::client::Limits;
    use super::super::memory::MemoryObjects;
    use super::*;

    #[test]
    fn what_was_ours_and_what_would_be_wrong_is_left_out() {
        let pairs =
            |names: &[&str]| -> Metadata { names.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect() };
        let carried = pairs(&["alluxio-mode", "mtime", "ctime", "mode", "uid", "theirs"]);
        let over = |policy| {
            let client = Arc::new(MemoryObjects::new(Limits::default()));
            let ufs = ObjectUfs::new(client, String::new(), "test".to_owned(), "memory").keeping(policy);
            ufs.merged_metadata(b"f", &carried, pairs(&["alluxio-write-id"]))
        };
        assert_eq!(over(Policy::Auto), pairs(&["theirs", "alluxio-write-id"]));
        assert_eq!(
            over(Policy::Never),
            pairs(&["mode", "uid", "theirs", "alluxio-write-id"])
        );
    }
}
