//! The tree: folders, deletes, renames, links.

use alluxio_proto::types::FileKind;
use bytes::Bytes;

use super::{Suite, pattern};
use crate::{UfsAttributes, UfsErrorKind, path};

impl Suite {
    pub(super) async fn tree(&self) {
        if self.profile.empty_folders {
            self.folders().await;
        }
        self.deletes().await;
        self.rename_files().await;
        self.rename_folders().await;
        self.symlinks().await;
        if let Some(space) = self.ufs.space().await.expect("space") {
            assert!(
                space.used_bytes <= space.total_bytes && space.total_bytes > 0,
                "{space:?}"
            );
        }
    }

    async fn folders(&self) {
        let (top, deep) = (self.at("folders"), self.at("folders/a/b"));
        let attributes = UfsAttributes {
            mode: Some(0o750),
            ..UfsAttributes::default()
        };
        self.ufs.mkdir(&deep, &attributes).await.expect("mkdir");
        self.ufs
            .mkdir(&deep, &UfsAttributes::default())
            .await
            .expect("mkdir again");
        self.ufs
            .mkdir(b"", &UfsAttributes::default())
            .await
            .expect("mkdir of the root");
        let status = self.ufs.status(&deep).await.expect("status of a folder");
        assert_eq!(
            (status.kind, status.length, status.mode),
            (FileKind::Directory, 0, Some(0o750))
        );
        assert_eq!(status.fingerprint, "");
        assert_eq!(self.names_in(&top, 10).await, ["a/"]);
        assert!(
            self.names_in(&deep, 10).await.is_empty(),
            "an empty folder can be listed"
        );

        let error = self
            .ufs
            .rmdir(&self.at("folders/a"))
            .await
            .expect_err("rmdir of a full folder");
        assert_eq!(error.kind, UfsErrorKind::NotEmpty, "{error}");
        let error = self.ufs.rmdir(b"").await.expect_err("rmdir of the root");
        assert_eq!(error.kind, UfsErrorKind::Invalid, "{error}");
        self.ufs.rmdir(&deep).await.expect("rmdir");
        self.ufs.rmdir(&deep).await.expect("rmdir again");
        assert_eq!(self.kind_of_status(&deep).await, Err(UfsErrorKind::NotFound));

        let file = self.at("folders/file");
        self.put(&file, "x").await;
        let error = self
            .ufs
            .mkdir(&file, &UfsAttributes::default())
            .await
            .expect_err("mkdir over a file");
        assert_eq!(error.kind, UfsErrorKind::AlreadyExists, "{error}");
        assert_eq!(self.get_all(&file).await, "x");
        let error = self.get(&top, 0..1, "").await.expect_err("read of a folder");
        assert!(
            matches!(error.kind, UfsErrorKind::IsADirectory | UfsErrorKind::NotFound),
            "{error}"
        );
    }

    async fn deletes(&self) {
        let folder = self.at("deletes");
        let mut paths: Vec<Bytes> = Vec::new();
        for index in 0..40 {
            let name = format!("sub{}/file {index}%", index % 4);
            paths.push(path::join(&folder, name.as_bytes()).into());
            self.put(&paths[index], "x").await;
        }
        paths.insert(5, path::join(&folder, b"absent").into());
        paths.insert(6, path::join(&folder, b"absent/deeper").into());
        paths.push(Bytes::from_static(b"not//a path"));
        let results = self.ufs.delete(&paths).await;
        assert_eq!(results.len(), paths.len(), "one result per path");
        let (bad, good) = results.split_last().expect("results");
        for (path, result) in paths.iter().zip(good) {
            result
                .clone()
                .unwrap_or_else(|error| panic!("delete {}: {error}", path::show(path)));
            assert_eq!(self.kind_of_status(path).await, Err(UfsErrorKind::NotFound));
        }
        assert_eq!(bad.clone().expect_err("no path").kind, UfsErrorKind::Invalid);
        assert!(self.ufs.delete(&[]).await.is_empty());
    }

    async fn rename_files(&self) {
        let (from, to) = (self.at("rename/from"), self.at("rename/into/to"));
        for length in [10, self.profile.large_bytes] {
            let body = pattern(length, 11);
            self.put(&from, body.clone()).await;
            self.put(&to, "replaced").await;
            let status = self.ufs.rename(&from, &to).await.expect("rename over a file");
            assert_eq!((&status.name[..], status.length), (&b"to"[..], length as u64));
            assert!(
                self.get(&to, 0..length as u64, &status.fingerprint)
                    .await
                    .expect("renamed")
                    == body
            );
            assert_eq!(self.kind_of_status(&from).await, Err(UfsErrorKind::NotFound));
        }
        // Again, as after a lost answer.
        let again = self.ufs.rename(&from, &to).await.expect("rename again");
        assert_eq!(again.length, self.profile.large_bytes as u64);
        self.ufs.rename(&to, &to).await.expect("rename onto itself");
        assert!(self.get_all(&to).await == pattern(self.profile.large_bytes, 11));
        let error = self
            .ufs
            .rename(&self.at("rename/no"), &self.at("rename/nor"))
            .await
            .expect_err("nothing there");
        assert_eq!(error.kind, UfsErrorKind::NotFound, "{error}");
        self.put(&from, "x").await;
        let error = self
            .ufs
            .rename(&from, &self.at("rename/into"))
            .await
            .expect_err("a file over a folder");
        assert!(
            matches!(error.kind, UfsErrorKind::IsADirectory | UfsErrorKind::NotEmpty),
            "{error}"
        );
        assert_eq!(self.get_all(&from).await, "x");
    }

    async fn rename_folders(&self) {
        let (from, to) = (self.at("old folder"), self.at("moved/new folder"));
        let names = ["a", "b/c", "b/d/e", "ä %", "b/d/f+g"];
        for name in names {
            self.put(&path::join(&from, name.as_bytes()), name).await;
        }
        if self.profile.empty_folders {
            let empty = path::join(&from, b"empty");
            self.ufs.mkdir(&empty, &UfsAttributes::default()).await.expect("mkdir");
        }
        // An interrupted one: some of it has moved. Stores with atomic rename know no such thing.
        if !self.ufs.capabilities().atomic_rename {
            let (one, target) = (path::join(&from, b"a"), path::join(&to, b"a"));
            self.ufs.rename(&one, &target).await.expect("move one");
        }
        let status = self.ufs.rename(&from, &to).await.expect("rename a folder");
        assert_eq!(
            (&status.name[..], status.kind),
            (&b"new folder"[..], FileKind::Directory)
        );
        assert_eq!(
            self.kind_of_status(&from).await,
            Err(UfsErrorKind::NotFound),
            "the old folder is gone"
        );
        for name in names {
            assert_eq!(self.get_all(&path::join(&to, name.as_bytes())).await, name);
        }
        if self.profile.empty_folders {
            assert_eq!(
                self.kind_of_status(&path::join(&to, b"empty")).await,
                Ok(FileKind::Directory)
            );
        }
        self.ufs.rename(&from, &to).await.expect("rename a folder again");
        let error = self
            .ufs
            .rename(&to, &path::join(&to, b"inside"))
            .await
            .expect_err("into itself");
        assert_eq!(error.kind, UfsErrorKind::Invalid, "{error}");
        let file = self.at("in-the-way");
        self.put(&file, "x").await;
        let error = self.ufs.rename(&to, &file).await.expect_err("a folder over a file");
        assert_eq!(error.kind, UfsErrorKind::NotADirectory, "{error}");
    }

    async fn symlinks(&self) {
        let link = self.at("links/link");
        let made = self
            .ufs
            .symlink(&link, b"../target \xff", &UfsAttributes::default())
            .await;
        if !self.ufs.capabilities().symlinks {
            assert_eq!(made.expect_err("no links here").kind, UfsErrorKind::Unsupported);
            return;
        }
        made.expect("symlink");
        let dir = self.at("links");
        let (entries, _) = self.list(&dir, 10).await.expect("list links");
        let entries = self.ufs.complete(&dir, entries).await.expect("complete");
        for status in [self.ufs.status(&link).await.expect("status"), entries[0].clone()] {
            assert_eq!(status.kind, FileKind::Symlink);
            assert_eq!(status.symlink_target.as_deref(), Some(&b"../target \xff"[..]));
        }
        let again = self.ufs.symlink(&link, b"other", &UfsAttributes::default()).await;
        let error = again.expect_err("something is there");
        assert_eq!(error.kind, UfsErrorKind::AlreadyExists, "{error}");
        assert!(self.ufs.delete(&[link.clone().into()]).await[0].is_ok());
        assert_eq!(self.kind_of_status(&link).await, Err(UfsErrorKind::NotFound));
    }
}
