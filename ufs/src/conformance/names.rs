//! Names: hostile ones that are paths, hostile keys that are none, and listings in pages of any size.

use alluxio_proto::types::FileKind;
use bytes::Bytes;
use std::sync::atomic::Ordering;

use super::Suite;
use crate::{UfsErrorKind, path};

/// Names that have broken some client or server.
const HOSTILE: &[&str] = &[
    "space in name",
    " leading",
    "trailing ",
    "percent%",
    "percent%20encoded",
    "%2e%2e",
    "%2F",
    "plus+plus",
    "hash#hash",
    "question?mark",
    "amp&amp;",
    "<xml>&\"'",
    "semi;colon:at@",
    "back\\slash",
    "tilde~*!()",
    "{}[]|^`$,=",
    "umlaut-äöü",
    "umlaut-decomposed-a\u{308}",
    "汉字",
    "emoji-🦀",
    "...",
    ".hidden",
    "-dash",
    "UPPER",
    "upper",
];

impl Suite {
    pub(super) async fn names(&self) {
        self.hostile_names().await;
        self.long_names().await;
        self.bytes_that_are_no_text().await;
        self.pages().await;
        self.neighbours().await;
        self.no_such_folder().await;
        self.keys_that_are_no_paths().await;
        for bad in ["/", "a/", "/a", "a//b", ".", "a/..", "../a", "a/./b"] {
            let error = self.ufs.status(bad.as_bytes()).await.expect_err(bad);
            assert_eq!(error.kind, UfsErrorKind::Invalid, "{bad:?}: {error}");
            assert!(self.ufs.check_path(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    /// Each hostile name as a file, as a folder, and renamed; and all of them deleted at once.
    async fn hostile_names(&self) {
        let folder = self.at("hostile");
        let mut names: Vec<String> = HOSTILE.iter().map(|name| (*name).to_owned()).collect();
        if self.profile.control_characters {
            names.extend(["bell\u{7}escape\u{1b}", "delete\u{7f}"].map(str::to_owned));
        }
        if self.profile.line_breaks {
            names.push("tab\tnewline\nreturn\r".to_owned());
        }
        for name in &names {
            let file = path::join(&folder, name.as_bytes());
            self.ufs.check_path(&file).expect(name);
            self.put(&file, name.clone()).await;
            assert_eq!(self.get_all(&file).await, name, "{name:?} comes back");
            let status = self.ufs.status(&file).await.expect(name);
            assert_eq!(status.name, name);
            let inside = path::join(&folder, format!("in {name}/{name}").as_bytes());
            self.put(&inside, "inside").await;
        }
        let (entries, skipped) = self.list(&folder, 7).await.expect("list hostile names");
        assert_eq!(skipped, 0);
        let mut listed: Vec<Bytes> = entries.iter().map(|entry| entry.name.clone()).collect();
        listed.sort();
        let expected = names.iter().flat_map(|name| [name.clone(), format!("in {name}")]);
        let mut expected: Vec<Bytes> = expected.map(Bytes::from).collect();
        expected.sort();
        assert_eq!(listed, expected);
        for entry in entries.iter().filter(|entry| entry.kind == FileKind::File) {
            let seen = self
                .ufs
                .status(&path::join(&folder, &entry.name))
                .await
                .expect("status of a listed name");
            assert_eq!(
                (seen.length, &seen.fingerprint),
                (entry.length, &entry.fingerprint),
                "{:?}",
                entry.name
            );
        }
        for name in &names {
            let dir = path::join(&folder, format!("in {name}").as_bytes());
            let (inside, _) = self.list(&dir, 10).await.expect(name);
            assert_eq!(inside.len(), 1, "in {name:?}");
            assert_eq!(inside[0].name, name);
            let (from, to) = (
                path::join(&folder, name.as_bytes()),
                path::join(&dir, format!("{name} moved").as_bytes()),
            );
            self.ufs.rename(&from, &to).await.expect("rename a hostile name");
            assert_eq!(self.get_all(&to).await, name);
        }
        self.clean(folder).await;
    }

    async fn long_names(&self) {
        let name = [b'n'; path::NAME_BYTES_MAX];
        let file = self.at(name);
        self.put(&file, "long").await;
        assert_eq!(self.get_all(&file).await, "long");
        let error = self.ufs.status(&self.at([b'n'; 256])).await.expect_err("256 bytes");
        assert_eq!(error.kind, UfsErrorKind::PathTooLong, "{error}");

        if self.profile.key_bytes_max == 0 {
            return;
        }
        let mut longest = self.at("deep");
        while longest.len() < self.profile.key_bytes_max {
            longest.push(
                if longest.len().is_multiple_of(100) && longest.len() + 1 < self.profile.key_bytes_max {
                    b'/'
                } else {
                    b'd'
                },
            );
        }
        self.put(&longest, "deep").await;
        assert_eq!(self.get_all(&longest).await, "deep");
        let (parent, name) = path::split(&longest);
        let (entries, _) = self.list(parent, 10).await.expect("list a deep folder");
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].name, name);
    }

    async fn bytes_that_are_no_text(&self) {
        let file = self.at(b"\xff\xfe-latin\xe4");
        if self.profile.any_bytes {
            self.put(&file, "bytes").await;
            assert_eq!(self.get_all(&file).await, "bytes");
        } else {
            for error in [
                self.ufs.check_path(&file).expect_err("not UTF-8"),
                self.ufs.status(&file).await.expect_err("not UTF-8"),
            ] {
                assert_eq!(error.kind, UfsErrorKind::Invalid, "{error}");
            }
        }
    }

    async fn pages(&self) {
        let folder = self.at("pages");
        let mut expected = Vec::new();
        for index in 0..23 {
            let name = if index % 3 == 0 {
                format!("n{index:02}/f")
            } else {
                format!("n{index:02}")
            };
            self.put(&path::join(&folder, name.as_bytes()), "x").await;
            expected.push(name.strip_suffix('f').unwrap_or(&name).to_owned());
        }
        for limit in [1, 2, 3, 22, 23, 24, 1000] {
            assert_eq!(self.names_in(&folder, limit).await, expected, "pages of {limit}");
        }
        // A name that goes between two pages takes no other with it.
        let first = self.ufs.list(&folder, None, 5).await.expect("first page");
        self.ufs
            .delete(&[path::join(&folder, b"n22").into()])
            .await
            .remove(0)
            .expect("delete");
        let mut names = first.entries.len();
        let mut token = first.next;
        while let Some(next) = token {
            let page = self.ufs.list(&folder, Some(next), 5).await.expect("next page");
            names += page.entries.len();
            token = page.next;
        }
        assert!((22..=23).contains(&names), "{names} names");
        let nonsense = self
            .ufs
            .list(&folder, Some(crate::PageToken(Bytes::from_static(b"?"))), 5)
            .await;
        assert_eq!(nonsense.expect_err("a token of nobody").kind, UfsErrorKind::Invalid);
    }

    /// `a` and what sorts between `a` and `a/`.
    async fn neighbours(&self) {
        let folder = self.at("neighbours");
        for name in ["k/x", "k-1", "k.txt", "k!", "k!!", "k0", "l", "k-1-1/y"] {
            self.put(&path::join(&folder, name.as_bytes()), name).await;
        }
        let mut expected = vec!["k!", "k!!", "k-1", "k-1-1/", "k.txt", "k/", "k0", "l"];
        if self.profile.file_beside_folder {
            for name in ["k", "k!/z"] {
                self.put(&path::join(&folder, name.as_bytes()), "beside").await;
            }
            expected[0] = "k!/";
        }
        expected.sort_unstable();
        for limit in 1..=9 {
            assert_eq!(self.names_in(&folder, limit).await, expected, "pages of {limit}");
        }
        let k = path::join(&folder, b"k");
        assert_eq!(
            self.kind_of_status(&k).await,
            Ok(FileKind::Directory),
            "the folder is shown"
        );
        assert_eq!(self.names_in(&k, 10).await, ["x"]);
        // What is hidden cannot be found by listing, but can be deleted by name.
        let hidden: Vec<Bytes> = [&b"k"[..], b"k!"]
            .iter()
            .map(|name| path::join(&folder, name).into())
            .collect();
        if self.profile.file_beside_folder {
            assert!(self.ufs.delete(&hidden).await.iter().all(Result::is_ok));
            assert_eq!(self.names_in(&folder, 10).await, expected);
        }
    }

    async fn no_such_folder(&self) {
        let error = self
            .list(&self.at("nowhere"), 10)
            .await
            .expect_err("list an absent folder");
        assert_eq!(error.kind, UfsErrorKind::NotFound, "{error}");
        let file = self.at("no-folder");
        self.put(&file, "x").await;
        let error = self.list(&file, 10).await.expect_err("list a file");
        assert_eq!(error.kind, UfsErrorKind::NotADirectory, "{error}");
        assert_eq!(self.kind_of_status(b"").await, Ok(FileKind::Directory), "the root");
        assert_eq!(
            self.kind_of_status(&self.at("nowhere")).await,
            Err(UfsErrorKind::NotFound)
        );
    }

    /// Keys of others that no path can name are skipped and counted, and take nothing else with them.
    async fn keys_that_are_no_paths(&self) {
        let Some(raw) = self.profile.raw.clone() else { return };
        let folder = self.at("strange");
        let prefix = String::from_utf8(folder.clone()).expect("text");
        let long = "x".repeat(256);
        // Skipped where they are listed: an empty component, dots, and a name that is too long.
        let strange = ["/b", "./c", "../d", ".", "..", &long];
        let fine = ["a", "dir/", "dir/file", "marker-only/", "z"];
        for key in strange.iter().chain(&fine) {
            raw.put(&format!("{prefix}/{key}"), b"strange").await;
        }
        raw.put(&format!("{prefix}/"), b"").await;
        let counted = self.ufs.metrics().skipped_keys.load(Ordering::Relaxed);
        for limit in [1, 3, 1000] {
            let (entries, skipped) = self.list(&folder, limit).await.expect("list strange keys");
            // `.` and `./c` are a file and a folder of one bad name each.
            assert_eq!(skipped, 6, "pages of {limit}");
            let mut names: Vec<_> = entries.iter().map(|entry| (entry.name.clone(), entry.kind)).collect();
            names.sort_by(|a, b| a.0.cmp(&b.0));
            let expected = [
                ("a", FileKind::File),
                ("dir", FileKind::Directory),
                ("marker-only", FileKind::Directory),
                ("z", FileKind::File),
            ];
            assert_eq!(
                names,
                expected.map(|(name, kind)| (Bytes::from(name), kind)),
                "pages of {limit}"
            );
        }
        assert_eq!(self.ufs.metrics().skipped_keys.load(Ordering::Relaxed) - counted, 18);
        assert_eq!(self.names_in(&path::join(&folder, b"dir"), 10).await, ["file"]);
        assert!(self.names_in(&path::join(&folder, b"marker-only"), 10).await.is_empty());
        for key in strange.iter().chain(&fine) {
            raw.delete(&format!("{prefix}/{key}")).await;
        }
        raw.delete(&format!("{prefix}/")).await;
    }
}
