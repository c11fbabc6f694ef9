//! The secret that the members of a cluster share, and what it is good for.
//!
//! It lies in a file of mode 0600 that the first start of a master makes and a person copies to the hosts of further workers. Who
//! has it is a member: may have the credentials of under-storages, and says which write leases are real. It is never sent;
//! what travels are answers to challenges ([`MemberProof`]), seals ([`ClusterSecret::seal`]) and signatures
//! ([`ClusterSecret::sign_lease`]), each under a key of its own derived from it (HMAC-SHA256).
//!
//! **Left out:** changing the secret of a running cluster, and protection of what is not a credential on the wire.

use crate::crashsafe;
use crate::sync::Mutex;
use crate::{ErrorKind, FsError, FsResult};
use alluxio_proto::InodeId;
use alluxio_proto::master::{MemberProof, WriteLease};
use alluxio_proto::types::UfsSource;
use bytes::Bytes;
use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Bytes of the secret, of a challenge and of an answer.
const BYTES: usize = 32;
/// Start of the line that holds the secret; names the format.
const LINE: &str = "alluxio-cluster-secret-1 ";
/// First byte of a seal; names how it is made: ChaCha20-Poly1305, a random nonce in front.
const SEAL_VERSION: u8 = 1;
/// The property that names the file.
const KEY: &str = "alluxio.security.cluster.secret.file";
/// A challenge is good for so long.
const CHALLENGE_AGE_MAX: Duration = Duration::from_secs(60);
/// Bytes of a challenge that its author checks: the time, and random ones.
const CHALLENGE_BODY: usize = 16;

/// The secret. Comparing, printing and sending it are nobody's business.
pub struct ClusterSecret([u8; BYTES]);

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(******)")
    }
}

impl ClusterSecret {
    /// A new one.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Derives a key for one use.
    fn key(&self, purpose: &str, context: &[&[u8]]) -> [u8; BYTES] {
        mac(&self.0, purpose, context)
    }

    /// Encrypts, so that only who has the secret and names the same `context` reads it, and nobody changes it.
    pub fn seal(&self, purpose: &str, context: &[&[u8]], clear: &[u8]) -> Vec<u8> {
        let nonce: [u8; aead::NONCE_LEN] = rand::random();
        let mut bytes = clear.to_vec();
        let sealed = self.aead(purpose, context).and_then(|key| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(nonce, Aad::from([SEAL_VERSION]), &mut bytes)
        });
        assert!(sealed.is_ok(), "sealing fails only beyond 256 GiB");
        let mut out = Vec::with_capacity(1 + nonce.len() + bytes.len());
        out.push(SEAL_VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&bytes);
        out
    }

    /// What was sealed; `None` if it was with another secret or context, or is damaged.
    pub fn unseal(&self, purpose: &str, context: &[&[u8]], sealed: &[u8]) -> Option<Vec<u8>> {
        let (version, rest) = sealed.split_first()?;
        let (nonce, bytes) = rest.split_at_checked(aead::NONCE_LEN)?;
        if *version != SEAL_VERSION {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = bytes.to_vec();
        let key = self.aead(purpose, context).ok()?;
        let clear = key.open_in_place(nonce, Aad::from([SEAL_VERSION]), &mut bytes).ok()?;
        Some(clear.to_vec())
    }

    fn aead(&self, purpose: &str, context: &[&[u8]]) -> Result<LessSafeKey, ring::error::Unspecified> {
        // A key for each purpose and context: nonces need to differ within one only.
        let key = self.key(purpose, context);
        UnboundKey::new(&aead::CHACHA20_POLY1305, &key).map(LessSafeKey::new)
    }

    /// Signs a lease, for [`WriteLease::token`].
    pub fn sign_lease(&self, inode: InodeId, lease: &WriteLease) -> Vec<u8> {
        mac(&self.0, "write lease", &lease_parts(inode, lease).each()).to_vec()
    }

    /// Whether a lease is one that [`Self::sign_lease`] signed, for the home that it names.
    pub fn knows_lease(&self, inode: InodeId, lease: &WriteLease) -> bool {
        is_mac(&self.0, "write lease", &lease_parts(inode, lease).each(), &lease.token)
    }

    /// Answers a challenge as worker `worker_id`.
    pub fn prove(&self, worker_id: u64, challenge: &[u8]) -> MemberProof {
        let own: [u8; BYTES] = rand::random();
        let answer = mac(&self.0, PROOF, &[&worker_id.to_le_bytes(), challenge, &own]);
        MemberProof {
            challenge: challenge.to_vec().into(),
            own: own.to_vec().into(),
            answer: answer.to_vec().into(),
        }
    }

    /// Whether a proof is right. That its challenge is one of ours and was not used is asked of [`Challenges`].
    fn is_right(&self, worker_id: u64, proof: &MemberProof) -> bool {
        is_mac(
            &self.0,
            PROOF,
            &[&worker_id.to_le_bytes(), &proof.challenge, &proof.own],
            &proof.answer,
        )
    }
}

const PROOF: &str = "worker proof";
/// Purpose of seals in a mount table that goes to one worker; their context is its answer to the challenge, and the mount.
pub const FOR_ONE_WORKER: &str = "mount options for one worker";
/// Purpose of seals in journal and metadata; their context is the URI of the mount.
pub const AT_REST: &str = "mount options at rest";

/// HMAC-SHA256 over a purpose and parts, each with its length before it.
fn mac(key: &[u8], purpose: &str, parts: &[&[u8]]) -> [u8; BYTES] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    feed(purpose, parts, |bytes| context.update(bytes));
    let mut out = [0; BYTES];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// The same, compared in constant time.
fn is_mac(key: &[u8], purpose: &str, parts: &[&[u8]], tag: &[u8]) -> bool {
    let mut message = Vec::new();
    feed(purpose, parts, |bytes| message.extend_from_slice(bytes));
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), &message, tag).is_ok()
}

fn feed(purpose: &str, parts: &[&[u8]], mut to: impl FnMut(&[u8])) {
    to(b"alluxio 1 ");
    for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
        to(&(part.len() as u64).to_le_bytes());
        to(part);
    }
}

/// What a signature of a lease covers. Field by field, so that fields that come later change nothing.
struct LeaseParts {
    numbers: Vec<u8>,
    texts: Vec<Vec<u8>>,
}

impl LeaseParts {
    fn each(&self) -> Vec<&[u8]> {
        let texts = self.texts.iter().map(Vec::as_slice);
        std::iter::once(self.numbers.as_slice()).chain(texts).collect()
    }
}

fn lease_parts(inode: InodeId, lease: &WriteLease) -> LeaseParts {
    let home = lease.home.as_ref().map_or(0, |home| home.worker_id);
    let mut numbers = vec![inode.get(), lease.version, home];
    let mut texts = Vec::new();
    if let Some(base) = &lease.base {
        numbers.extend([base.version, base.length, base.older_version]);
        for source in [&base.ufs, &base.older] {
            let (fingerprint, path) = source.as_ref().map_or((&[][..], &[][..]), bytes_of);
            let location = source.as_ref().map_or([u64::MAX; 2], |at| [at.mount_id, at.length]);
            numbers.extend(location);
            texts.extend([fingerprint.to_vec(), path.to_vec()]);
        }
    }
    LeaseParts {
        numbers: numbers.into_iter().flat_map(u64::to_le_bytes).collect(),
        texts,
    }
}

fn bytes_of(source: &UfsSource) -> (&[u8], &[u8]) {
    (source.fingerprint.as_bytes(), &source.path)
}

/// Challenges that one process gives out. They carry what is needed to know them again, so that asking for many costs no memory
/// here; only those that were answered rightly are kept, so that none is good twice.
pub struct Challenges {
    key: [u8; BYTES],
    used: Mutex<HashMap<Bytes, SystemTime>>,
}

impl Default for Challenges {
    fn default() -> Self {
        Self {
            key: rand::random(),
            used: Mutex::default(),
        }
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").finish_non_exhaustive()
    }
}

impl Challenges {
    /// A new one.
    pub fn issue(&self) -> Vec<u8> {
        let mut challenge = since_epoch(SystemTime::now()).to_le_bytes().to_vec();
        challenge.extend_from_slice(&rand::random::<u64>().to_le_bytes());
        let tag = mac(&self.key, "challenge", &[&challenge]);
        challenge.extend_from_slice(&tag);
        challenge
    }

    /// Takes a proof, once.
    ///
    /// # Errors
    /// `NotPermitted` if who sent it has not the secret; `Unavailable` if the challenge is not of this process, too old or used:
    /// ask for a new one.
    pub fn accept(&self, secret: &ClusterSecret, worker_id: u64, proof: &MemberProof) -> FsResult<()> {
        let again = |why: &str| FsError::new(ErrorKind::Unavailable, format!("prove membership: {why}; try again"));
        let Some((body, tag)) = proof.challenge.split_at_checked(CHALLENGE_BODY) else {
            return Err(FsError::new(ErrorKind::NotPermitted, not_a_member()));
        };
        if !is_mac(&self.key, "challenge", &[body], tag) {
            return Err(again("the challenge is not one of this master's"));
        }
        let mut issued = [0; 8];
        issued.copy_from_slice(&body[..8]);
        let issued = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::from_le_bytes(issued));
        let is_old = |at: SystemTime| at.elapsed().is_ok_and(|age| age > CHALLENGE_AGE_MAX);
        if is_old(issued) {
            return Err(again("the challenge is too old"));
        }
        if !secret.is_right(worker_id, proof) {
            return Err(FsError::new(ErrorKind::NotPermitted, not_a_member()));
        }
        let mut used = self.used.lock();
        used.retain(|_, at| !is_old(*at));
        match used.insert(proof.challenge.clone(), issued) {
            None => Ok(()),
            Some(_) => Err(again("the challenge was answered before")),
        }
    }
}

/// Milliseconds.
fn since_epoch(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn not_a_member() -> String {
    format!(
        "the worker has not this cluster's secret: copy the master's file ({KEY}) to the worker's host, to the path that {KEY} \
         names there, with mode 0600"
    )
}

/// The file of the secret, read when it is first needed.
#[derive(Debug)]
pub struct SecretFile {
    path: PathBuf,
    read: Mutex<Option<Arc<ClusterSecret>>>,
}

impl SecretFile {
    /// The file at `path`; nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            path: path.into(),
            read: Mutex::default(),
        })
    }

    /// The secret.
    ///
    /// # Errors
    /// `NotPermitted` if the file is missing or open to others: both say what to do. `Corrupt` if it holds something else.
    pub fn get(&self) -> FsResult<Arc<ClusterSecret>> {
        let mut read = self.read.lock();
        if let Some(secret) = &*read {
            return Ok(Arc::clone(secret));
        }
        let secret = Arc::new(load(&self.path)?.ok_or_else(|| self.missing())?);
        *read = Some(Arc::clone(&secret));
        Ok(secret)
    }

    /// The secret, which is made if there is no file.
    ///
    /// # Errors
    /// As [`Self::get`], and of writing.
    pub fn get_or_create(&self) -> FsResult<Arc<ClusterSecret>> {
        if load(&self.path)?.is_none() {
            create(&self.path).map_err(|error| FsError::from_io(self.doing("make"), &error))?;
            tracing::info!(
                path = %self.path.display(),
                "made the secret of the cluster; workers on other hosts need a copy of this file, with mode 0600"
            );
        }
        self.get()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} the cluster's secret {} ({KEY})", self.path.display())
    }

    fn missing(&self) -> FsError {
        let why = format!(
            "{}: there is no such file; copy the master's to this path, with mode 0600",
            self.doing("read")
        );
        FsError::new(ErrorKind::NotPermitted, why)
    }
}

fn load(path: &Path) -> FsResult<Option<ClusterSecret>> {
    let doing = || format!("read the cluster's secret {} ({KEY})", path.display());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FsError::from_io(doing(), &error)),
    };
    let mode = std::fs::metadata(path)
        .map_err(|error| FsError::from_io(doing(), &error))?
        .mode();
    if mode & 0o077 != 0 {
        let why = format!("{}: others can read it; chmod 600 {}", doing(), path.display());
        return Err(FsError::new(ErrorKind::NotPermitted, why));
    }
    let secret = text
        .lines()
        .find_map(|line| from_hex(line.trim().strip_prefix(LINE)?.trim()));
    let damaged = || FsError::new(ErrorKind::Corrupt, format!("{}: it holds no secret", doing()));
    secret.map(|bytes| Some(ClusterSecret(bytes))).ok_or_else(damaged)
}

/// Makes the file; one that somebody else made meanwhile stays.
fn create(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    crashsafe::create_dir_all(folder)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{:016x}.tmp", rand::random::<u64>()));
    let temporary = PathBuf::from(temporary);
    let made = (|| {
        let mut file = crashsafe::private_file()
            .write(true)
            .create_new(true)
            .open(&temporary)?;
        let hex: String = ClusterSecret::generate()
            .0
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let about = "# The secret of an Alluxio cluster. Who has it is a member: keep it, and copy it only to the cluster's workers.";
        writeln!(file, "{about}\n{LINE}{hex}")?;
        file.sync_all()?;
        match std::fs::hard_link(&temporary, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => crashsafe::sync_dir(folder),
        }
    })();
    // Whatever happened, this name is of no use any more.
    let _ = std::fs::remove_file(&temporary);
    made
}

fn from_hex(text: &str) -> Option<[u8; BYTES]> {
    let mut out = [0; BYTES];
    if text.len() != BYTES * 2 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluxio_proto::types::WorkerAddress;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_seal_opens_with_the_same_secret_and_context_only() {
        let (ours, other) = (ClusterSecret::generate(), ClusterSecret::generate());
        let sealed = ours.seal("mount", &[b"s3://b"], b"the key");
        assert!(!sealed.windows(7).any(|part| part == b"the key"));
        assert_eq!(ours.unseal("mount", &[b"s3://b"], &sealed).unwrap(), b"the key");
        assert_ne!(
            sealed,
            ours.seal("mount", &[b"s3://b"], b"the key"),
            "a nonce of its own"
        );
        assert_eq!(other.unseal("mount", &[b"s3://b"], &sealed), None);
        assert_eq!(ours.unseal("mount", &[b"s3://c"], &sealed), None);
        assert_eq!(ours.unseal("reply", &[b"s3://b"], &sealed), None);
        for cut in 0..sealed.len() {
            assert_eq!(ours.unseal("mount", &[b"s3://b"], &sealed[..cut]), None);
        }
        let mut bent = sealed;
        *bent.last_mut().unwrap() ^= 1;
        assert_eq!(ours.unseal("mount", &[b"s3://b"], &bent), None);
    }

    #[test]
    fn a_proof_is_good_once_for_its_worker_and_its_master() {
        let (secret, challenges) = (ClusterSecret::generate(), Challenges::default());
        let proof = secret.prove(7, &challenges.issue());
        assert_eq!(
            challenges.accept(&secret, 8, &proof).unwrap_err().kind,
            ErrorKind::NotPermitted
        );
        challenges.accept(&secret, 7, &proof).unwrap();
        let again = challenges.accept(&secret, 7, &proof).unwrap_err();
        assert!(again.message.contains("answered before"), "{again}");
        let foreign = secret.prove(7, &Challenges::default().issue());
        assert_eq!(
            challenges.accept(&secret, 7, &foreign).unwrap_err().kind,
            ErrorKind::Unavailable
        );
        let wrong = ClusterSecret::generate().prove(7, &challenges.issue());
        let error = challenges.accept(&secret, 7, &wrong).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotPermitted);
        assert!(error.message.contains(KEY) && error.message.contains("copy"), "{error}");
        assert!(challenges.accept(&secret, 7, &MemberProof::default()).is_err());
    }

    #[test]
    fn a_signature_is_for_one_inode_version_home_and_base() {
        let secret = ClusterSecret::generate();
        let mut lease = WriteLease {
            version: 3,
            home: Some(WorkerAddress {
                worker_id: 5,
                ..Default::default()
            }),
            base: Some(alluxio_proto::master::ReadSource {
                version: 2,
                ufs: Some(UfsSource {
                    mount_id: 1,
                    path: "a".into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        lease.token = secret.sign_lease(InodeId(1), &lease).into();
        assert!(secret.knows_lease(InodeId(1), &lease));
        assert!(!secret.knows_lease(InodeId(2), &lease));
        let changes: [fn(&mut WriteLease); 4] = [
            |lease| lease.version += 1,
            |lease| lease.home.as_mut().unwrap().worker_id += 1,
            |lease| lease.base.as_mut().unwrap().ufs.as_mut().unwrap().path = "b".into(),
            |lease| lease.token = Default::default(),
        ];
        for change in changes {
            let mut other = lease.clone();
            change(&mut other);
            assert!(!secret.knows_lease(InodeId(1), &other), "{other:?}");
        }
    }

    #[test]
    fn the_file_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/cluster.secret");
        let missing = SecretFile::new(&path).get().unwrap_err();
        assert!(missing.message.contains("copy the master's"), "{missing}");
        let made = SecretFile::new(&path).get_or_create().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SecretFile::new(&path).get_or_create().unwrap().0, made.0);
        assert_eq!(std::fs::read_dir(dir.path().join("sub")).unwrap().count(), 1);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let open = SecretFile::new(&path).get().unwrap_err();
        assert!(open.message.contains("chmod 600"), "{open}");
        std::fs::write(&path, "alluxio-cluster-secret-1 12\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(SecretFile::new(&path).get().unwrap_err().kind, ErrorKind::Corrupt);
    }
}
