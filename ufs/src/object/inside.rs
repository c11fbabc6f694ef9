//! Copies from another mount of the same store: CopyObject between buckets, in parts where the object is larger than one request
//! copies. The source is compared by the store; so is the target, where it can.

use alluxio_proto::types::FileKind;

use super::ObjectUfs;
use super::client::{ObjectMeta, Properties, now_ns};
use crate::inside::{Export, Exported, unencrypted};
use crate::{Expect, UfsAttributes, UfsErrorKind, UfsResult, UfsStatus};

impl ObjectUfs {
    /// See [`crate::UnderFileSystem::export`].
    pub(super) async fn export_object(&self, path: &[u8], fingerprint: &str) -> UfsResult<Export> {
        let meta = self.client.describe(&self.key(path)?).await?;
        if meta.etag != fingerprint {
            let why = "it is another object now, and is not copied";
            return Err(self.error(UfsErrorKind::PreconditionFailed, path, why));
        }
        Ok(Export(Exported::Object {
            place: self.client.place(),
            meta: Box::new(meta),
        }))
    }

    /// See [`crate::UnderFileSystem::import`].
    pub(super) async fn import_object(
        &self,
        export: &Export,
        to: &[u8],
        expect: &Expect,
        wanted: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        let elsewhere = || {
            self.error(
                UfsErrorKind::Unsupported,
                to,
                "what is to be copied is not in the same store",
            )
        };
        let Exported::Object {
            place: Some(source),
            meta,
        } = &export.0
        else {
            return Err(elsewhere());
        };
        if self.client.place().is_none_or(|here| here.store != source.store) {
            return Err(elsewhere());
        }
        let key = self.key(to)?;
        let ours = self.to_metadata(wanted, FileKind::File);
        self.mark_parent(to).await?;
        let properties = Properties {
            metadata: self.merged_metadata(to, &meta.properties.metadata, ours),
            headers: unencrypted(&meta.properties),
            ..meta.properties.clone()
        };
        let copied = if meta.length <= self.limits.copy_part_bytes {
            self.client
                .copy_from(&source.bucket, meta, &key, expect, &properties)
                .await
        } else {
            self.check_expected(to, &key, expect).await?;
            self.copy_in_parts(Some(&source.bucket), meta, &key, &properties, expect)
                .await
        };
        let etag = match copied {
            Ok(Some(etag)) => etag,
            Ok(None) => self.client.head(&key).await?.etag,
            Err(error) => self.own_of_lost_answer(to, &key, wanted, error).await?,
        };
        let meta = ObjectMeta {
            key,
            length: meta.length,
            modified_ns: now_ns(),
            etag,
            properties,
        };
        Ok(self.file_status(to, &meta))
    }
}
