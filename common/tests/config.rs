//! Loading, precedence, references, checks and warnings of the configuration; and that the registry is sound.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use alluxio_common::config::{ConfigError, Configuration, Kind, Source, Sources, keys};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Sources with a properties file in a folder of their own.
fn sources(dir: &Path, site: &str) -> Sources {
    std::fs::write(dir.join("alluxio-site.properties"), site).unwrap();
    Sources {
        environment: vec![
            ("HOME".to_owned(), "/home/u".to_owned()),
            ("ALLUXIO_CONF_DIR".to_owned(), dir.to_str().unwrap().to_owned()),
        ],
        ..Sources::default()
    }
}

fn load(site: &str) -> Result<Configuration, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    Configuration::load(&sources(dir.path(), site))
}

fn warning(site: &str) -> String {
    let conf = load(site).unwrap();
    assert_eq!(conf.warnings().len(), 1, "{:?}", conf.warnings());
    conf.warnings()[0].clone()
}

#[test]
fn later_sources_win_and_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = sources(
        dir.path(),
        "alluxio.master.hostname=site  \nalluxio.worker.hostname=site\nalluxio.user.hostname=site\n\
         alluxio.worker.bind.host=site\n",
    );
    for (variable, value) in [
        ("ALLUXIO_WORKER_HOSTNAME", "env"),
        ("ALLUXIO_USER_HOSTNAME", "env"),
        ("ALLUXIO_WORKER_BIND_HOST", "env"),
    ] {
        all.environment.push((variable.to_owned(), value.to_owned()));
    }
    all.add_property("alluxio.user.hostname=first").unwrap();
    all.add_property("alluxio.user.hostname=-D").unwrap();
    all.add_property("alluxio.worker.bind.host=-D").unwrap();
    all.add_flag("--bind", &keys::worker::WORKER_BIND_HOST, "flag");
    let conf = Configuration::load(&all).unwrap();
    let site = Source::SiteFile(dir.path().join("alluxio-site.properties"));
    let env = Source::Environment("ALLUXIO_WORKER_HOSTNAME".to_owned());
    for (key, value, source) in [
        (&keys::master::MASTER_RPC_PORT, "19998", Source::Default),
        (&keys::master::MASTER_HOSTNAME, "site", site),
        (&keys::worker::WORKER_HOSTNAME, "env", env),
        (&keys::user::USER_HOSTNAME, "-D", Source::Property),
        (
            &keys::worker::WORKER_BIND_HOST,
            "flag",
            Source::Flag("--bind".to_owned()),
        ),
    ] {
        assert_eq!(conf.string(key), value, "{}", key.name);
        assert_eq!(conf.source(key.name), source, "{}", key.name);
    }
    assert_eq!(conf.warnings(), [] as [&str; 0]);
    assert_eq!(conf.source("alluxio.user.hostname").to_string(), "SYSTEM_PROPERTY");
}

#[test]
fn the_first_folder_with_a_file_counts() {
    let (first, second, none) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    sources(first.path(), "alluxio.master.hostname=first");
    sources(
        second.path(),
        "alluxio.master.hostname=second\nalluxio.worker.hostname=second",
    );
    let mut all = Sources::default();
    let folders = [none.path(), first.path(), second.path()]
        .map(|p| p.to_str().unwrap().to_owned())
        .join(",");
    all.add_property(&format!("alluxio.site.conf.dir={folders}")).unwrap();
    let conf = Configuration::load(&all).unwrap();
    assert_eq!(conf.string(&keys::master::MASTER_HOSTNAME), "first");
    assert!(!conf.is_set(&keys::worker::WORKER_HOSTNAME));
}

#[test]
fn home_is_searched_after_the_conf_folder() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".alluxio")).unwrap();
    sources(&home.path().join(".alluxio"), "alluxio.master.hostname=at-home");
    let mut all = Sources::default();
    all.environment
        .push(("HOME".to_owned(), home.path().to_str().unwrap().to_owned()));
    all.environment
        .push(("ALLUXIO_HOME".to_owned(), "/nonexistent".to_owned()));
    let conf = Configuration::load(&all).unwrap();
    assert_eq!(conf.string(&keys::master::MASTER_HOSTNAME), "at-home");
}

#[test]
fn references_are_replaced_wherever_they_stand() {
    let conf =
        load("alluxio.work.dir=/data\nalluxio.master.metastore.dir=${alluxio.master.journal.folder}/x-${user.home}");
    let conf = conf.unwrap();
    assert_eq!(conf.string(&keys::master::JOURNAL_FOLDER), "/data/journal");
    assert_eq!(conf.string(&keys::master::METASTORE_DIR), "/data/journal/x-/home/u");
    // By way of two defaults.
    let dotted = load("alluxio.home=/h").unwrap();
    assert_eq!(dotted.string(&keys::worker::WORKER_TIER0_PATH), "/h/cache");

    let circle = load("alluxio.work.dir=${alluxio.home}\nalluxio.home=${alluxio.work.dir}").unwrap_err();
    assert!(circle.to_string().contains("in a circle"), "{circle}");
    let nowhere = load("alluxio.work.dir=${alluxio.hoem}/x").unwrap_err();
    assert!(
        nowhere
            .to_string()
            .contains("refers to ${alluxio.hoem}, which is not known"),
        "{nowhere}"
    );
    // Not a reference: no end.
    assert_eq!(
        load("alluxio.work.dir=/a${b").unwrap().string(&keys::general::WORK_DIR),
        "/a${b"
    );
}

#[test]
fn a_wrong_value_is_one_clear_error() {
    for (site, accepted) in [
        ("alluxio.master.rpc.port=99999", "must be a port from 0 to 65535"),
        (
            "alluxio.user.file.writetype.default=LATER",
            "must be MUST_CACHE or CACHE_THROUGH or THROUGH or ASYNC_THROUGH",
        ),
        ("alluxio.user.block.size.bytes.default=big", "must be a size such as"),
        ("alluxio.user.rpc.retry.max.duration=soon", "must be a time such as"),
        ("alluxio.user.short.circuit.enabled=", "must be true or false"),
        (
            "alluxio.security.authorization.permission.umask=999",
            "must be octal permission bits",
        ),
        ("alluxio.master.journal.type=UFS", "must be EMBEDDED"),
    ] {
        let (key, value) = site.split_once('=').unwrap();
        let error = load(site).unwrap_err().to_string();
        for part in [key, &format!("{value:?}"), "alluxio-site.properties", accepted] {
            assert!(error.contains(part), "{error}");
        }
    }
    let mut from_command = Sources::default();
    from_command.add_property("alluxio.worker.rpc.port=x").unwrap();
    let error = Configuration::load(&from_command).unwrap_err().to_string();
    assert_eq!(
        error,
        r#"property alluxio.worker.rpc.port = "x" (from SYSTEM_PROPERTY) must be a port from 0 to 65535"#
    );
    assert!(
        Sources::default()
            .add_property("alluxio.home")
            .unwrap_err()
            .to_string()
            .contains("must be key=value")
    );
    assert!(Sources::default().add_property("=x").is_err());
    let syntax = load("a=1\nb=\\u1").unwrap_err().to_string();
    assert!(syntax.contains("alluxio-site.properties, line 2"), "{syntax}");
}

#[test]
fn an_unreadable_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    // A folder of that name: reading fails for every user.
    std::fs::create_dir(dir.path().join("alluxio-site.properties")).unwrap();
    let mut all = Sources::default();
    all.add_property(&format!("alluxio.conf.dir={}", dir.path().display()))
        .unwrap();
    assert!(matches!(Configuration::load(&all), Err(ConfigError::Read { .. })));
}

#[test]
fn odd_names_are_warnings() {
    let unknown = warning("alluxio.master.rpc.prt=1");
    assert!(
        unknown.starts_with("unknown property alluxio.master.rpc.prt (from SITE_PROPERTY ("),
        "{unknown}"
    );
    assert!(unknown.ends_with("did you mean alluxio.master.rpc.port?"), "{unknown}");
    let accepted = warning("alluxio.fuse.jnifuse.enabled=true");
    assert!(accepted.ends_with("accepted, no effect"), "{accepted}");
    assert!(warning("some.thing=1").starts_with("unknown property some.thing"));
    assert!(warning("alluxio.site.conf.dir=/x").ends_with("has no effect in that file"));
    // An option of the root mount is misspelt as easily.
    let option = warning("alluxio.master.mount.table.root.option.alluxio.underfs.s3.endpont=x");
    assert!(
        option.ends_with("did you mean alluxio.master.mount.table.root.option.alluxio.underfs.s3.endpoint?"),
        "{option}"
    );
    let passed = load("s3a.x=1\nfs.azure.y=2\nalluxio.master.mount.table.root.option.s3a.secretKey=3").unwrap();
    assert!(passed.warnings().is_empty(), "{:?}", passed.warnings());

    let mut env = Sources::default();
    for name in [
        "ALLUXIO_MASTER_HOSTNAM",
        "ALLUXIO_JAVA_OPTS",
        "ALLUXIO_LOG",
        "ALLUXIO_FUSE_JNIFUSE_ENABLED",
        "PATH",
    ] {
        env.environment.push((name.to_owned(), "x".to_owned()));
    }
    let conf = Configuration::load(&env).unwrap();
    let warnings = conf.warnings().join("\n");
    assert_eq!(conf.warnings().len(), 3, "{warnings}");
    assert!(warnings.contains("unknown variable ALLUXIO_MASTER_HOSTNAM; did you mean ALLUXIO_MASTER_HOSTNAME?"));
    assert!(warnings.contains("ALLUXIO_JAVA_OPTS is for Java"));
    assert!(
        warnings.contains("alluxio.fuse.jnifuse.enabled (from ENVIRONMENT (ALLUXIO_FUSE_JNIFUSE_ENABLED)): accepted")
    );
}

#[test]
fn values_are_read_by_their_type() {
    let conf = load(
        "alluxio.user.file.metadata.sync.interval=-1\nalluxio.user.block.size.bytes.default=16MB\n\
         alluxio.worker.file.sync.on.close=False\nalluxio.user.file.writetype.default=through\n\
         alluxio.master.persistence.blacklist= .tmp , ,~\n",
    )
    .unwrap();
    assert_eq!(conf.duration(&keys::user::SYNC_INTERVAL), None);
    assert_eq!(
        conf.duration(&keys::user::PERSIST_WAIT),
        Some(Duration::from_millis(200))
    );
    assert_eq!(conf.bytes(&keys::user::BLOCK_SIZE), 16 << 20);
    assert!(!conf.bool(&keys::worker::WORKER_SYNC_ON_CLOSE));
    assert_eq!(conf.string(&keys::user::WRITE_TYPE), "THROUGH");
    assert_eq!(conf.list(&keys::master::PERSIST_BLACKLIST), [".tmp", "~"]);
    assert_eq!(conf.octal(&keys::general::UMASK), 0o022);
    assert_eq!(conf.ratio(&keys::worker::WORKER_TIER0_HIGH_RATIO), 0.95);
    assert_eq!(conf.port(&keys::master::MASTER_RPC_PORT), 19998);
    assert_eq!(conf.int(&keys::master::RETRY_CACHE_SIZE), 100_000);
    assert_eq!(conf.path(&keys::general::HOME), Path::new("/opt/alluxio"));
}

#[test]
fn setting_from_code() {
    let mut conf = Configuration::default();
    conf.set("alluxio.master.rpc.port", "nonsense");
    assert_eq!(
        conf.port(&keys::master::MASTER_RPC_PORT),
        19998,
        "unchecked nonsense reads as the default"
    );
    let error = conf.try_set("alluxio.worker.rpc.port", "nonsense", Source::Property);
    assert!(error.unwrap_err().to_string().contains("must be a port"));
    assert!(
        !conf.is_set(&keys::worker::WORKER_RPC_PORT),
        "a refused value is not set"
    );
    conf.try_set("alluxio.worker.rpc.port", "1", Source::Property).unwrap();
    conf.try_set("alluxio.worker.rpc.port", "-", Source::Property)
        .unwrap_err();
    assert_eq!(conf.port(&keys::worker::WORKER_RPC_PORT), 1);
}

#[test]
fn credentials_are_masked_and_mount_options_found() {
    let conf = load(
        "s3a.secretKey=hush\nalluxio.master.mount.table.root.option.s3a.accessKeyId=also\n\
         alluxio.master.mount.table.root.option.alluxio.underfs.s3.region=eu-1\nfs.x=y",
    )
    .unwrap();
    let shown: Vec<_> = conf
        .iter_known()
        .map(|s| (s.name.clone(), s.display_value().to_owned()))
        .collect();
    assert!(
        shown.iter().all(|(_, value)| value != "hush" && value != "also"),
        "{shown:?}"
    );
    assert!(shown.contains(&("s3a.secretKey".to_owned(), "******".to_owned())));
    assert!(shown.contains(&("fs.x".to_owned(), "y".to_owned())));
    assert!(
        shown.contains(&("s3a.accessKeyId".to_owned(), String::new())),
        "nothing to mask"
    );
    assert!(shown.is_sorted());
    assert_eq!(conf.get("s3a.secretKey").unwrap().value, "hush");
    assert!(conf.get("no.such").is_none());
    let options = conf.mount_options();
    assert_eq!(options["s3a.accessKeyId"], "also");
    assert_eq!(options["alluxio.underfs.s3.region"], "eu-1");
    let with = conf
        .with_mount_options(options.iter().map(|(k, v)| (k.as_str(), v.as_str())))
        .unwrap();
    assert_eq!(with.string(&keys::underfs::S3_REGION), "eu-1");
    assert_eq!(with.source("alluxio.underfs.s3.region"), Source::MountOption);
    assert!(
        conf.with_mount_options([("alluxio.underfs.s3.request.timeout", "x")])
            .is_err()
    );
}

#[test]
fn the_registry_is_sound() {
    let conf = Configuration::default();
    let mut names = BTreeSet::new();
    for key in keys::all() {
        assert!(names.insert(key.name), "{} is declared twice", key.name);
        let value = conf.get(key.name).unwrap().value;
        assert!(
            key.accepts(&value),
            "default of {}: {value:?} is not {}",
            key.name,
            key.kind
        );
        assert!(key.doc.ends_with('.') && key.doc.len() > 10, "doc of {}", key.name);
        assert!(!key.doc.contains("  "), "doc of {}: blanks of a broken line", key.name);
        if let Kind::Enum(words) = key.kind {
            assert!(
                words.iter().all(|word| *word == word.to_uppercase()),
                "words of {}",
                key.name
            );
        }
    }
}

/// A key that stands outside `keys! { … }`, or a module that is not in `MODULES`, would work but not be known.
#[test]
fn every_declared_key_is_registered() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/keys");
    let mut declared = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        declared += text.matches(": Key = ").count();
    }
    assert_eq!(
        declared,
        keys::all().count(),
        "write keys inside `keys! {{ … }}` and modules into MODULES"
    );
}
