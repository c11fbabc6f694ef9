//! What an object carries beside its bytes, and what of it goes on to the object that replaces it.
//!
//! Carried on: Content-Type, Cache-Control and their like, user metadata of others, tags, the storage class. Ours
//! (`alluxio-…`) are said anew by each write; times that rclone and s3fs note would be wrong after it.

use super::ObjectUfs;
use super::client::{Metadata, Properties};
use crate::{BaseObject, Expect, UfsErrorKind, UfsResult, path};

const OURS: &str = "alluxio-";
/// Times of data by others' tools.
const TIMES: [&str; 3] = ["mtime", "ctime", "atime"];

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
            None if *expect == Expect::Absent => return Ok(ours.into()),
            None => key.to_owned(),
        };
        match self.client.describe(&source).await {
            Ok(meta) => Ok(over(meta.properties, ours)),
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

fn over(mut carried: Properties, ours: Metadata) -> Properties {
    carried
        .metadata
        .retain(|(name, _)| !name.starts_with(OURS) && !TIMES.contains(&name.as_str()));
    carried.metadata.extend(ours);
    carried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ours_and_what_would_be_wrong_is_left_out() {
        let pairs =
            |names: &[&str]| -> Metadata { names.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect() };
        let carried = Properties {
            metadata: pairs(&["alluxio-mode", "mtime", "theirs"]),
            headers: pairs(&["content-type"]),
            tags: "a=b".to_owned(),
            storage_class: "STANDARD_IA".to_owned(),
        };
        let merged = over(carried.clone(), pairs(&["alluxio-write-id"]));
        assert_eq!(merged.metadata, pairs(&["theirs", "alluxio-write-id"]));
        assert_eq!(
            (merged.headers, merged.tags, merged.storage_class),
            (carried.headers, carried.tags, carried.storage_class)
        );
    }
}
