//! kill -9 at random moments of creates, renames and removals of trees, chmod -R and uploads: after each restart the namespace is what
//! was acknowledged, and in the end the bucket holds the same.
//!
//! `ALLUXIO_TEST_KILLS=200` kills more often, `ALLUXIO_TEST_SEED=N` at other moments.
#![allow(clippy::unwrap_used, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "they are what is tested")]

use alluxio_tests::{Local, LocalBuilder, MemoryS3, S3Server, tools, tree, wait};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const KILLS: u64 = 8;
/// Store and namespace are compared after so many, and at the end.
const KILLS_BETWEEN_CHECKS: u64 = 8;
const TREES: u64 = 5;
const FILES: u64 = 8;
const LONG: Duration = Duration::from_secs(120);
/// What the bucket has that is no file: the attributes of the mount's own folder.
const ROOT_MARK: &str = ".alluxio-folder";

/// What a file is: its content, and its permission bits.
type Model = BTreeMap<String, (Vec<u8>, u32)>;

/// Numbers that look random, the same ones for one seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Who works on the mount until it is killed.
struct Actor {
    mount: PathBuf,
    numbers: Numbers,
    model: Model,
    /// Top folders that the operation under way is about.
    touched: Vec<String>,
    done: u64,
}

impl Actor {
    /// Works on until the mount is gone.
    fn work(&mut self) {
        loop {
            self.touched.clear();
            match self.step() {
                Ok(()) => self.done += 1,
                Err(error) => {
                    let code = error.raw_os_error();
                    let gone = [libc::ENOTCONN, libc::ECONNABORTED, libc::EIO, libc::ENODEV];
                    assert!(code.is_some_and(|code| gone.contains(&code)), "{error}");
                    return;
                }
            }
        }
    }

    fn tree(&mut self) -> String {
        format!("t{}", self.numbers.below(TREES))
    }

    fn step(&mut self) -> std::io::Result<()> {
        match self.numbers.below(8) {
            0..=2 => self.fill(),
            3..=5 => self.rename(),
            6 => self.remove(),
            _ => self.chmod(),
        }
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let tree = self.tree();
        self.touched.push(tree.clone());
        std::fs::create_dir_all(self.mount.join(&tree).join("sub"))?;
        for index in 0..FILES {
            let name = match index % 2 {
                0 => format!("{tree}/f{index}"),
                _ => format!("{tree}/sub/f{index}"),
            };
            let bytes = tree::contents(self.numbers.below(1 << 40), 10 + self.numbers.below(9_000) as usize);
            let path = self.mount.join(&name);
            std::fs::write(&path, &bytes)?;
            let mode = path.metadata()?.permissions().mode() & 0o7777;
            self.model.insert(name, (bytes, mode));
        }
        Ok(())
    }

    fn rename(&mut self) -> std::io::Result<()> {
        let (from, to) = (self.tree(), self.tree());
        if from == to || !self.mount.join(&from).try_exists()? || self.mount.join(&to).try_exists()? {
            return Ok(());
        }
        self.touched.extend([from.clone(), to.clone()]);
        std::fs::rename(self.mount.join(&from), self.mount.join(&to))?;
        for (name, file) in self.take(&from) {
            self.model.insert(format!("{to}{}", &name[from.len()..]), file);
        }
        Ok(())
    }

    fn remove(&mut self) -> std::io::Result<()> {
        let tree = self.tree();
        self.touched.push(tree.clone());
        if self.mount.join(&tree).try_exists()? {
            std::fs::remove_dir_all(self.mount.join(&tree))?;
            self.take(&tree);
        }
        Ok(())
    }

    fn chmod(&mut self) -> std::io::Result<()> {
        let tree = self.tree();
        let mode = 0o600 + self.numbers.below(0o100) as u32;
        self.touched.push(tree.clone());
        let names: Vec<String> = self.model.keys().filter(|name| is_of(name, &tree)).cloned().collect();
        for name in names {
            std::fs::set_permissions(self.mount.join(&name), PermissionsExt::from_mode(mode))?;
            self.model.get_mut(&name).unwrap().1 = mode;
        }
        Ok(())
    }

    fn take(&mut self, tree: &str) -> Model {
        let (taken, rest) = std::mem::take(&mut self.model)
            .into_iter()
            .partition(|(name, _)| is_of(name, tree));
        self.model = rest;
        taken
    }

    /// What no operation was about is as it was; of the rest whatever is there counts.
    fn check_and_adopt(&mut self) {
        let mut found = Model::new();
        collect(&self.mount, "", &mut found);
        let touched = std::mem::take(&mut self.touched);
        let is_touched = |name: &String| touched.iter().any(|tree| is_of(name, tree));
        let untouched = |model: &Model| -> Model {
            let kept = model.iter().filter(|(name, _)| !is_touched(name));
            kept.map(|(name, file)| (name.clone(), file.clone())).collect()
        };
        let (expected, there) = (untouched(&self.model), untouched(&found));
        let names = |model: &Model| model.keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            names(&expected),
            names(&there),
            "names that were acknowledged; at work on {touched:?}"
        );
        for (name, file) in &expected {
            assert!(there[name] == *file, "{name} is another one after the restart");
        }
        self.model = found;
    }
}

fn is_of(name: &str, tree: &str) -> bool {
    name.split('/').next() == Some(tree)
}

fn collect(dir: &Path, prefix: &str, found: &mut Model) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            collect(&entry.path(), &format!("{name}/"), found);
        } else {
            let mode = meta.permissions().mode() & 0o7777;
            found.insert(name, (std::fs::read(entry.path()).unwrap(), mode));
        }
    }
}

/// The bucket holds the files of the namespace, and no object besides but markers of its folders.
fn check_bucket(local: &Local, server: &MemoryS3, model: &Model) {
    wait::until("everything is persisted", LONG, || {
        let persisted = local.alluxio(&["fs", "persist", "/"]);
        let report = local.alluxio(&["fsadmin", "report"]);
        persisted.code == 0 && report.stdout.contains("Not Yet Persisted: 0\n")
    });
    let mut objects: Vec<String> = Vec::new();
    for key in server.keys() {
        match key.strip_suffix('/') {
            Some(folder) => assert!(
                local.mount().join(folder).is_dir(),
                "{key} is no folder of the namespace"
            ),
            None if key == ROOT_MARK => {}
            None => objects.push(key),
        }
    }
    assert_eq!(objects, model.keys().cloned().collect::<Vec<_>>(), "{}", local.log());
    for (name, (bytes, _)) in model {
        assert!(
            server.object(name).unwrap().content.bytes() == bytes[..],
            "{name} differs in the bucket"
        );
    }
}

#[test]
fn trees_survive_kills_at_any_moment() {
    let (kills, seed) = (number("ALLUXIO_TEST_KILLS", KILLS), number("ALLUXIO_TEST_SEED", 7));
    println!("replay: ALLUXIO_TEST_KILLS={kills} ALLUXIO_TEST_SEED={seed}");
    let server = MemoryS3::start();
    let dir = tools::scratch("trees-");
    let mut local = LocalBuilder::at(dir.path())
        .ufs("s3://bucket/")
        .options(server.options())
        .option("alluxio.user.file.persistence.initial.wait.time", "20ms")
        .option("alluxio.user.file.metadata.sync.interval", "1s")
        .start();
    let mut actor = Actor {
        mount: local.mount().to_owned(),
        numbers: Numbers(seed),
        model: Model::new(),
        touched: Vec::new(),
        done: 0,
    };
    let mut moments = Numbers(seed ^ 0x5eed);
    for kill in 1..=kills {
        let moment = Duration::from_millis(30 + moments.below(900));
        std::thread::scope(|scope| {
            let working = scope.spawn(|| actor.work());
            std::thread::sleep(moment);
            local.process().kill();
            working.join().unwrap();
        });
        local = local.crash_and_restart();
        actor.check_and_adopt();
        if kill % KILLS_BETWEEN_CHECKS == 0 || kill == kills {
            check_bucket(&local, &server, &actor.model);
        }
    }
    println!("{} operations were made between {kills} kills", actor.done);
    assert!(actor.done > 0);
    let (code, log) = local.stop(LONG);
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}
