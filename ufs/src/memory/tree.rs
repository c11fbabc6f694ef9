//! A file system as one sorted map from path to node.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alluxio_common::sync::Mutex;
use alluxio_proto::types::FileKind;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::object::client::now_ns;
use crate::path::{check_path, is_beneath, join, show, split};
use crate::{
    BaseObject, Capabilities, Expect, PageToken, UfsAttributes, UfsError, UfsErrorKind, UfsMetrics, UfsPage, UfsResult,
    UfsSpace, UfsStatus, UnderFileSystem, UploadSource,
};

const CHUNK_BYTES: usize = 64 << 10;
/// Page tokens begin so, and go on with the last name given.
const TOKEN_PREFIX: &[u8] = b"after/";

#[derive(Clone, Debug)]
struct Node {
    kind: FileKind,
    body: Bytes,
    inode: u64,
    attributes: UfsAttributes,
}

type Nodes = BTreeMap<Vec<u8>, Node>;

/// The store. The root is no node: it is always there.
#[derive(Debug, Default)]
pub(super) struct MemoryTree {
    nodes: Mutex<Nodes>,
    next_inode: AtomicU64,
    metrics: Arc<UfsMetrics>,
}

fn error<T>(kind: UfsErrorKind, path: &[u8]) -> UfsResult<T> {
    Err(UfsError::new(kind, format!("{} in memory: {kind:?}", show(path))))
}

fn status_of(path: &[u8], node: &Node) -> UfsStatus {
    let mtime_ns = node.attributes.mtime_ns.unwrap_or(0);
    let length = node.body.len() as u64;
    let file = node.kind != FileKind::Directory;
    UfsStatus {
        name: Bytes::copy_from_slice(split(path).1),
        kind: node.kind,
        length: if file { length } else { 0 },
        mtime_ns,
        fingerprint: if file {
            format!("{mtime_ns}-{length}-{}", node.inode)
        } else {
            String::new()
        },
        mode: node.attributes.mode,
        owner: node.attributes.owner.clone(),
        group: node.attributes.group.clone(),
        symlink_target: (node.kind == FileKind::Symlink).then(|| node.body.clone()),
        write_id: node.attributes.write_id.clone(),
    }
}

async fn read_exactly(source: &dyn UploadSource, range: Range<u64>, path: &[u8]) -> UfsResult<Bytes> {
    let length = range.end - range.start;
    let bytes = source.read_at(range.start, length).await?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => error(UfsErrorKind::Other, path),
    }
}

fn children<'a>(nodes: &'a Nodes, dir: &'a [u8]) -> impl Iterator<Item = (&'a Vec<u8>, &'a Node)> {
    let start = if dir.is_empty() {
        Vec::new()
    } else {
        [dir, b"/"].concat()
    };
    nodes
        .range::<[u8], _>((Bound::Included(&start[..]), Bound::Unbounded))
        .take_while(move |(path, _)| is_beneath(path, dir))
        .filter(move |(path, _)| split(path).0 == dir)
        .collect::<Vec<_>>()
        .into_iter()
}

fn find<'a>(nodes: &'a Nodes, path: &[u8]) -> UfsResult<&'a Node> {
    check_path(path)?;
    if let Some(node) = nodes.get(path) {
        return Ok(node);
    }
    let (mut parent, _) = split(path);
    while !parent.is_empty() {
        if nodes.get(parent).is_some_and(|node| node.kind != FileKind::Directory) {
            return error(UfsErrorKind::NotADirectory, path);
        }
        parent = split(parent).0;
    }
    error(UfsErrorKind::NotFound, path)
}

impl MemoryTree {
    fn lock(&self) -> alluxio_common::sync::MutexGuard<'_, Nodes> {
        UfsMetrics::add(&self.metrics.requests, 1);
        self.nodes.lock()
    }

    fn node(&self, kind: FileKind, body: Bytes, attributes: &UfsAttributes) -> Node {
        Node {
            kind,
            body,
            inode: self.next_inode.fetch_add(1, Ordering::Relaxed),
            attributes: UfsAttributes {
                mtime_ns: attributes.mtime_ns.or_else(|| Some(now_ns())),
                ..attributes.clone()
            },
        }
    }

    /// Gives bytes their name, if what is there is as expected.
    fn place(&self, path: &[u8], body: Bytes, expect: &Expect, attributes: &UfsAttributes) -> UfsResult<UfsStatus> {
        let mut nodes = self.lock();
        check_path(path)?;
        let there = nodes.get(path).map(|node| status_of(path, node));
        if path.is_empty() || there.as_ref().is_some_and(|there| there.kind == FileKind::Directory) {
            return error(UfsErrorKind::IsADirectory, path);
        }
        let holds = match expect {
            Expect::Any => true,
            Expect::Absent => there.is_none(),
            Expect::Fingerprint(wanted) => there.is_some_and(|there| there.fingerprint == *wanted),
        };
        if !holds {
            return error(UfsErrorKind::PreconditionFailed, path);
        }
        self.make_parents(&mut nodes, path)?;
        let node = self.node(FileKind::File, body, attributes);
        let status = status_of(path, &node);
        nodes.insert(path.to_vec(), node);
        Ok(status)
    }

    fn make_directories(&self, nodes: &mut Nodes, path: &[u8], attributes: &UfsAttributes) -> UfsResult<()> {
        check_path(path)?;
        if path.is_empty() {
            return Ok(());
        }
        match nodes.get(path).map(|node| node.kind) {
            Some(FileKind::Directory) => return Ok(()),
            Some(_) => return error(UfsErrorKind::AlreadyExists, path),
            None => {}
        }
        self.make_parents(nodes, path)?;
        let node = self.node(FileKind::Directory, Bytes::new(), attributes);
        nodes.insert(path.to_vec(), node);
        Ok(())
    }

    fn make_parents(&self, nodes: &mut Nodes, path: &[u8]) -> UfsResult<()> {
        let made = self.make_directories(nodes, split(path).0, &UfsAttributes::default());
        made.map_err(|error| match error.kind {
            UfsErrorKind::AlreadyExists => UfsError::new(UfsErrorKind::NotADirectory, error.message),
            _ => error,
        })
    }
}

#[async_trait::async_trait]
impl UnderFileSystem for MemoryTree {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ufs_type: "memory",
            real_directories: true,
            atomic_rename: true,
            conditional_write: true,
            copies_ranges: true,
            symlinks: true,
        }
    }

    fn metrics(&self) -> Arc<UfsMetrics> {
        self.metrics.clone()
    }

    async fn probe(&self) -> UfsResult<()> {
        Ok(())
    }

    async fn status(&self, path: &[u8]) -> UfsResult<UfsStatus> {
        if path.is_empty() {
            let root = self.node(FileKind::Directory, Bytes::new(), &UfsAttributes::default());
            return Ok(status_of(path, &root));
        }
        let nodes = self.lock();
        Ok(status_of(path, find(&nodes, path)?))
    }

    async fn list(&self, dir: &[u8], token: Option<PageToken>, limit: usize) -> UfsResult<UfsPage> {
        let after = match &token {
            Some(token) => match token.0.strip_prefix(TOKEN_PREFIX) {
                Some(name) => Some(name.to_vec()),
                None => return error(UfsErrorKind::Invalid, dir),
            },
            None => None,
        };
        let nodes = self.lock();
        if !dir.is_empty() && find(&nodes, dir)?.kind != FileKind::Directory {
            return error(UfsErrorKind::NotADirectory, dir);
        }
        let mut entries: Vec<UfsStatus> = children(&nodes, dir)
            .map(|(path, node)| status_of(path, node))
            .collect();
        // The map sorts by path, where `a-b` comes before what is in `a`.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.retain(|entry| after.as_ref().is_none_or(|after| entry.name > after[..]));
        let more = entries.len() > limit.max(1);
        entries.truncate(limit.max(1));
        let next = entries.last().filter(|_| more);
        let next = next.map(|last| PageToken([TOKEN_PREFIX, &last.name[..]].concat().into()));
        Ok(UfsPage {
            entries,
            next,
            skipped: 0,
        })
    }

    async fn read(
        &self,
        path: &[u8],
        range: Range<u64>,
        fingerprint: &str,
    ) -> UfsResult<BoxStream<'static, UfsResult<Bytes>>> {
        let nodes = self.lock();
        if path.is_empty() {
            return error(UfsErrorKind::IsADirectory, path);
        }
        let node = find(&nodes, path)?;
        match node.kind {
            FileKind::File => {}
            FileKind::Directory => return error(UfsErrorKind::IsADirectory, path),
            _ => return error(UfsErrorKind::Invalid, path),
        }
        if !fingerprint.is_empty() && status_of(path, node).fingerprint != fingerprint {
            return error(UfsErrorKind::PreconditionFailed, path);
        }
        if range.end > node.body.len() as u64 {
            return error(UfsErrorKind::Invalid, path);
        }
        let mut chunks = Vec::new();
        if !range.is_empty() {
            // Both fit, for they are at most the length of a buffer.
            let mut body = node.body.slice(range.start as usize..range.end as usize);
            while !body.is_empty() {
                chunks.push(Ok(body.split_to(body.len().min(CHUNK_BYTES))));
            }
        }
        UfsMetrics::add(&self.metrics.bytes_read, range.end.saturating_sub(range.start));
        Ok(stream::iter(chunks).boxed())
    }

    async fn write(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        expect: &Expect,
        attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        let body = read_exactly(source, 0..source.length(), path).await?;
        UfsMetrics::add(&self.metrics.bytes_written, body.len() as u64);
        self.place(path, body, expect, attributes)
    }

    async fn write_over(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        base: &BaseObject,
        expect: &Expect,
        attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        base.check(source.length())?;
        let old = {
            let nodes = self.lock();
            match find(&nodes, &base.path) {
                Ok(node) if status_of(&base.path, node).fingerprint == base.fingerprint => node.body.clone(),
                Ok(_) => return Err(base.changed("it has changed")),
                Err(error) if error.kind == UfsErrorKind::NotFound => return Err(base.changed("it is gone")),
                Err(error) => return Err(error),
            }
        };
        let mut body = vec![0; source.length() as usize];
        for range in &base.clean {
            let range = range.start as usize..range.end as usize;
            body[range.clone()].copy_from_slice(&old[range]);
        }
        for range in base.dirty(source.length()) {
            let bytes = read_exactly(source, range.clone(), path).await?;
            UfsMetrics::add(&self.metrics.bytes_written, bytes.len() as u64);
            body[range.start as usize..range.end as usize].copy_from_slice(&bytes);
        }
        self.place(path, body.into(), expect, attributes)
    }

    async fn delete(&self, paths: &[Bytes]) -> Vec<UfsResult<()>> {
        let mut nodes = self.lock();
        let delete = |path: &Bytes| match find(&nodes, path).map(|node| node.kind) {
            _ if path.is_empty() => error(UfsErrorKind::IsADirectory, path),
            Ok(FileKind::Directory) => error(UfsErrorKind::IsADirectory, path),
            Ok(_) => {
                nodes.remove(&path[..]);
                Ok(())
            }
            Err(error) if matches!(error.kind, UfsErrorKind::NotFound | UfsErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(error),
        };
        paths.iter().map(delete).collect()
    }

    async fn mkdir(&self, path: &[u8], attributes: &UfsAttributes) -> UfsResult<()> {
        self.make_directories(&mut self.lock(), path, attributes)
    }

    async fn rmdir(&self, path: &[u8]) -> UfsResult<()> {
        let mut nodes = self.lock();
        if path.is_empty() {
            return error(UfsErrorKind::Invalid, path);
        }
        match find(&nodes, path).map(|node| node.kind) {
            Ok(FileKind::Directory) => {}
            Ok(_) => return error(UfsErrorKind::NotADirectory, path),
            Err(error) if error.kind == UfsErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        if children(&nodes, path).next().is_some() {
            return error(UfsErrorKind::NotEmpty, path);
        }
        nodes.remove(path);
        Ok(())
    }

    async fn symlink(&self, path: &[u8], target: &[u8]) -> UfsResult<()> {
        let mut nodes = self.lock();
        check_path(path)?;
        if path.is_empty() || nodes.contains_key(path) {
            return error(UfsErrorKind::AlreadyExists, path);
        }
        self.make_parents(&mut nodes, path)?;
        let node = self.node(
            FileKind::Symlink,
            Bytes::copy_from_slice(target),
            &UfsAttributes::default(),
        );
        nodes.insert(path.to_vec(), node);
        Ok(())
    }

    async fn rename(&self, from: &[u8], to: &[u8]) -> UfsResult<UfsStatus> {
        let mut nodes = self.lock();
        check_path(to)?;
        if from.is_empty() || to.is_empty() || is_beneath(to, from) {
            return error(UfsErrorKind::Invalid, from);
        }
        let source = match find(&nodes, from) {
            Ok(source) => source.kind,
            Err(error) if error.kind == UfsErrorKind::NotFound => {
                return find(&nodes, to).map(|node| status_of(to, node)).map_err(|_| error);
            }
            Err(error) => return Err(error),
        };
        if from != to {
            let target = nodes.get(to).map(|node| node.kind);
            match (source, target) {
                (FileKind::Directory, Some(FileKind::Directory)) if children(&nodes, to).next().is_some() => {
                    return error(UfsErrorKind::NotEmpty, to);
                }
                (FileKind::Directory, Some(kind)) if kind != FileKind::Directory => {
                    return error(UfsErrorKind::NotADirectory, to);
                }
                (kind, Some(FileKind::Directory)) if kind != FileKind::Directory => {
                    return error(UfsErrorKind::IsADirectory, to);
                }
                _ => {}
            }
            self.make_parents(&mut nodes, to)?;
            let beneath = nodes.keys().filter(|path| is_beneath(path, from)).cloned();
            let moving: Vec<Vec<u8>> = beneath.chain([from.to_vec()]).collect();
            for old in moving {
                let new = if old == from {
                    to.to_vec()
                } else {
                    join(to, &old[from.len() + 1..])
                };
                if let Some(node) = nodes.remove(&old) {
                    nodes.insert(new, node);
                }
            }
        }
        Ok(status_of(to, find(&nodes, to)?))
    }

    async fn set_attributes(&self, path: &[u8], attributes: &UfsAttributes) -> UfsResult<bool> {
        let mut nodes = self.lock();
        find(&nodes, path)?;
        if let Some(node) = nodes.get_mut(path) {
            let old = std::mem::take(&mut node.attributes);
            let new = attributes.clone();
            node.attributes = UfsAttributes {
                mode: new.mode.or(old.mode),
                owner: new.owner.or(old.owner),
                group: new.group.or(old.group),
                mtime_ns: new.mtime_ns.or(old.mtime_ns),
                write_id: old.write_id,
            };
        }
        Ok(true)
    }

    async fn abort_stale_uploads(&self, _age: Duration) -> UfsResult<u64> {
        Ok(0)
    }

    async fn space(&self) -> UfsResult<Option<UfsSpace>> {
        Ok(None)
    }
}
