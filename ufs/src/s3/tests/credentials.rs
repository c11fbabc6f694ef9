//! Keys from wherever the AWS tools take them, renewed, refused, expired.

use std::time::{Duration, Instant};

use alluxio_tests::s3::memory::{Act, Fault};

use super::*;

const ROLE: &str = "arn:aws:iam::123456789012:role/reader";

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_change_in_a_profile_are_taken_at_once() {
    let mut world = World::new();
    world.file("credentials", &keys_of("default"));
    // Its time moves whenever somebody writes it.
    world.set("AWS_CONFIG_FILE", "/dev/null");
    let client = world.client();
    works(&client).await.unwrap();
    for round in 0..4 {
        // A change of something else just before.
        if round > 1 {
            tokio::time::sleep(Duration::from_millis(1100)).await;
            let text = std::fs::read_to_string(world.home.path().join(".aws/credentials")).unwrap();
            world.file("credentials", &format!("{text}region = nowhere\n"));
            works(&client).await.unwrap();
        }
        let (key, secret) = (format!("NEW{round}"), format!("secret{round}"));
        rotate(&world.server, &key, &secret);
        let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        world.file("credentials", &text);
        // The first one to be refused may be a HEAD, which says no reason.
        client.head("f").await.unwrap();
        works(&client).await.unwrap();
    }
    // Half a file is no reason to give up what is good.
    world.file("credentials", "[default]\naws_access_key_id = ");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    works(&client).await.unwrap();
}

/// A HEAD that was refused with the old keys asks for the reason with those that a listing's refusal brought meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_meet_new_keys() {
    let world = World::new();
    world.file("credentials", &keys_of("default"));
    let client = world.client();
    works(&client).await.unwrap();
    for round in 0..40 {
        let (key, secret) = (format!("NEW{round}"), format!("secret{round}"));
        rotate(&world.server, &key, &secret);
        let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        world.file("credentials", &text);
        let (head, listed) = futures::join!(client.head("f"), list(&client));
        head.unwrap();
        listed.unwrap();
    }
}

/// Sets up one source, and says what is asked of which service for it.
type Source = (&'static str, fn(&mut World), &'static [&'static str]);

fn instance(world: &mut World) {
    let endpoint = world.server.endpoint();
    world.environment.remove("AWS_EC2_METADATA_DISABLED");
    world.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint);
}

fn container(world: &mut World) {
    let token = world.file("container-token", "let-me-in\n").display().to_string();
    let url = format!("{}/container/role", world.server.endpoint());
    world.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token);
    world.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
}

/// A login as `aws sso login` leaves it; the name of its file is the SHA-1 of what it is called by.
fn login(world: &World, sha1: &str, until: &str) {
    let text = format!(r#"{{"accessToken": "let-me-in", "expiresAt": "{until}", "region": "us-east-1"}}"#);
    world.file(&format!("sso/cache/{sha1}.json"), &text);
}

/// Of `corp`.
const SHA1_OF_CORP: &str = "ee0bfd2552fbd840c02cc48b6e823320543c450f";
const SSO: &str = "sso_account_id = 123456789012\nsso_role_name = reader\n";

fn sha1(text: &str) -> String {
    super::super::sign::hex(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

const SOURCES: [Source; 12] = [
    (
        "environment",
        |world| {
            world
                .set("AWS_ACCESS_KEY_ID", ACCESS_KEY)
                .set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        },
        &[],
    ),
    (
        "config file",
        |world| drop(world.file("config", &keys_of("default"))),
        &[],
    ),
    (
        "process",
        |world| {
            let printed = format!(
                r#"{{"Version": 1, "AccessKeyId": "{ACCESS_KEY}", "SecretAccessKey": "{SECRET_KEY}", "Expiration": "2099-01-01T00:00:00Z"}}"#
            );
            let script = world.file("script", &printed);
            world.file(
                "config",
                &format!("[default]\ncredential_process = cat '{}'\n", script.display()),
            );
        },
        &[],
    ),
    (
        "role by a profile",
        |world| {
            world
                .server
                .identity(|identity| identity.external_id = Some("ours".to_owned()));
            world.file("credentials", &keys_of("base"));
            world.file(
                "config",
                &format!("[profile work]\nrole_arn = {ROLE}\nsource_profile = base\nexternal_id = ours\nrole_session_name = me\n"),
            );
            world.set("AWS_PROFILE", "work");
        },
        &["AssumeRole"],
    ),
    (
        "role by a role",
        |world| {
            world.file("credentials", &keys_of("base"));
            world.file(
                "config",
                &format!(
                    "[default]\nrole_arn = {ROLE}\nsource_profile = middle\n\
                     [profile middle]\nrole_arn = {ROLE}\nsource_profile = base\nduration_seconds = 900\n"
                ),
            );
        },
        &["AssumeRole", "AssumeRole"],
    ),
    (
        "role by itself",
        |world| {
            world.file(
                "config",
                &format!("[default]\nrole_arn = {ROLE}\nsource_profile = default\n"),
            );
            world.file("credentials", &keys_of("default"));
        },
        &["AssumeRole"],
    ),
    (
        "role by the instance",
        |world| {
            instance(world);
            world.file(
                "config",
                &format!("[default]\nrole_arn = {ROLE}\ncredential_source = Ec2InstanceMetadata\n"),
            );
        },
        &["InstanceToken", "InstanceRole", "InstanceRole", "AssumeRole"],
    ),
    (
        "web identity",
        |world| {
            let token = world.file("web-token", "let-me-in\n").display().to_string();
            world
                .set("AWS_WEB_IDENTITY_TOKEN_FILE", token)
                .set("AWS_ROLE_ARN", ROLE);
            // It goes before plain keys of a profile.
            world.file(
                "credentials",
                "[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n",
            );
        },
        &["AssumeRoleWithWebIdentity"],
    ),
    (
        "web identity of a profile",
        |world| {
            let token = world.file("web-token", "let-me-in").display().to_string();
            world.file(
                "config",
                &format!("[default]\nrole_arn = {ROLE}\nweb_identity_token_file = {token}\n"),
            );
        },
        &["AssumeRoleWithWebIdentity"],
    ),
    (
        "SSO session",
        |world| {
            let text = format!("[default]\nsso_session = corp\n{SSO}[sso-session corp]\nsso_region = us-east-1\n");
            world.file("config", &text);
            login(world, &sha1("corp"), "2099-01-01T00:00:00Z");
        },
        &["GetRoleCredentials"],
    ),
    (
        "SSO as it was",
        |world| {
            let url = "https://corp.awsapps.com/start";
            let text = format!("[default]\nsso_start_url = {url}\nsso_region = us-east-1\n{SSO}");
            world.file("config", &text);
            login(world, &sha1(url), "2099-01-01T00:00:00UTC");
        },
        &["GetRoleCredentials"],
    ),
    (
        "container before instance",
        |world| {
            container(world);
            instance(world);
        },
        &["ContainerRole"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_where_the_aws_tools_find_them() {
    assert_eq!(sha1("corp"), SHA1_OF_CORP);
    for (name, prepare, asked) in SOURCES {
        let mut world = World::new();
        prepare(&mut world);
        let client = world.client();
        works(&client).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let services = [
            "AssumeRole",
            "AssumeRoleWithWebIdentity",
            "InstanceToken",
            "InstanceRole",
            "ContainerRole",
            "GetRoleCredentials",
        ];
        let log = world.server.log();
        let seen: Vec<&str> = log
            .iter()
            .map(|seen| seen.operation)
            .filter(|seen| services.contains(seen))
            .collect();
        assert_eq!(seen, asked, "{name}");
    }
}

/// A mount's own settings go before those of everybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_mount_may_have_a_profile_of_its_own() {
    let mut world = World::new();
    world
        .set("AWS_ACCESS_KEY_ID", "wrong")
        .set("AWS_SECRET_ACCESS_KEY", "wrong");
    world.file("credentials", &keys_of("mine"));
    assert_eq!(refused(&world.client()).await.0, UfsErrorKind::Denied);
    let own = world.client_with(&[("alluxio.underfs.s3.profile", "mine")]).unwrap();
    works(&own).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_bucket_is_read_without_keys() {
    let world = World::new();
    world.server.habits(|habits| habits.public = true);
    let (kind, why) = refused(&world.client()).await;
    assert_eq!(kind, UfsErrorKind::Denied, "nobody is anonymous by mistake: {why}");
    assert!(why.contains("alluxio.underfs.s3.anonymous=true"), "{why}");
    let client = world.client_with(&[("alluxio.underfs.s3.anonymous", "true")]).unwrap();
    world.server.clear_log();
    works(&client).await.unwrap();
    let signed = |name: &str| world.server.log().iter().any(|seen| seen.headers.contains_key(name));
    assert!(!signed("authorization") && !signed("x-amz-date"));
}

/// Keys that are good for three seconds, under load for seven: no request is refused, none waits for long, and one asks for all.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_renewed_before_they_expire() {
    let mut world = World::new();
    world.server.identity(|identity| identity.lifetime_s = 3);
    container(&mut world);
    let client = Arc::new(world.client());
    let first: Vec<_> = (0..40)
        .map(|_| {
            tokio::spawn({
                let client = client.clone();
                async move { client.head("f").await }
            })
        })
        .collect();
    for one in first {
        one.await.unwrap().unwrap();
    }
    assert_eq!(world.server.seen("ContainerRole").len(), 1, "one asks for all");
    let until = Instant::now() + Duration::from_secs(7);
    while Instant::now() < until {
        client.head("f").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = world.server.log();
    assert!(
        !log.iter().any(|seen| matches!(seen.status, 400 | 403)),
        "nothing was refused"
    );
    let asked = world.server.seen("ContainerRole").len();
    assert!((3..=8).contains(&asked), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_valid_is_used_while_its_source_is_away() {
    let mut world = World::new();
    world.server.identity(|identity| identity.lifetime_s = 4);
    container(&mut world);
    let client = world.client();
    works(&client).await.unwrap();
    world.server.fail(
        Fault::new(Act::Status(500, "InternalError"))
            .on("ContainerRole")
            .always(),
    );
    let given = Instant::now();
    let error = loop {
        match works(&client).await {
            Ok(()) => assert!(given.elapsed() < Duration::from_secs(6), "they have expired"),
            Err(error) => break error,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(given.elapsed() > Duration::from_millis(2500), "{:?}", given.elapsed());
    assert_eq!(error.kind, UfsErrorKind::Unreachable, "{error}");
    assert!(error.message.contains("container role at"), "{error}");
    assert!(world.server.seen("ContainerRole").len() < 30, "it is not hammered");
    world.server.heal();
    works(&client).await.unwrap();
}

/// Somebody ended them before their time.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_refuses_is_renewed_and_sent_again_once() {
    for act in ["expired", "unknown"] {
        let mut world = World::new();
        container(&mut world);
        let client = world.client();
        for head in [true, false] {
            works(&client).await.unwrap();
            world.server.credentials(|known| match act {
                "expired" => known.values_mut().for_each(|known| known.expired = true),
                _ => known.clear(),
            });
            world.server.clear_log();
            match head {
                true => drop(client.head("f").await.unwrap()),
                false => drop(list(&client).await.unwrap()),
            }
            assert_eq!(world.server.seen("ContainerRole").len(), 1, "{act}");
        }
        // Of a source that gives what is refused nobody asks again and again.
        world.server.fail(
            Fault::new(Act::Status(400, "ExpiredToken"))
                .on("ListObjectsV2")
                .always(),
        );
        world.server.clear_log();
        for _ in 0..5 {
            let (kind, why) = refused(&client).await;
            assert_eq!(kind, UfsErrorKind::Denied);
            assert!(why.contains("docs/s3-storage.md"), "{why}");
        }
        let asked = world.server.seen("ContainerRole").len();
        assert!(asked <= 5, "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_taken_up_when_it_comes() {
    let world = World::new();
    let text = format!("[default]\nsso_session = corp\n{SSO}[sso-session corp]\nsso_region = us-east-1\n");
    world.file("config", &text);
    let client = world.client();
    let (kind, why) = refused(&client).await;
    assert!(
        kind == UfsErrorKind::Denied && why.contains("run `aws sso login --profile default`"),
        "{why}"
    );
    login(&world, SHA1_OF_CORP, "2020-01-01T00:00:00Z");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (_, why) = refused(&client).await;
    assert!(why.contains("the login has expired"), "{why}");
    login(&world, SHA1_OF_CORP, "2099-01-01T00:00:00Z");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    works(&client).await.unwrap();
}

/// What cannot work says whose fault it is and what to try, and never a secret.
#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_source_and_hide_its_secrets() {
    let secret = "very-secret-indeed";
    type Prepare = fn(&mut World);
    let rows: [(Prepare, &str); 9] = [
        (|_| (), "profile \"default\" of"),
        (
            |world| {
                world.set("AWS_PROFILE", "gone");
            },
            "there is no profile \"gone\" in",
        ),
        (
            |world| {
                let line = "echo '{\"Version\": 1, \"AccessKeyId\": \"very-secret-indeed\"}'";
                world.file("config", &format!("[default]\ncredential_process = {line}\n"));
            },
            "credential_process of profile \"default\"",
        ),
        (
            |world| {
                drop(world.file(
                    "config",
                    "[default]\ncredential_process = echo no such tool >&2; exit 3\n",
                ))
            },
            "no such tool",
        ),
        (
            |world| {
                let text = format!("[default]\nrole_arn = {ROLE}\nsource_profile = base\nmfa_serial = arn:mfa\n");
                world.file("config", &text);
            },
            "it wants a code of arn:mfa",
        ),
        (
            |world| {
                let of = |name: &str, source: &str| {
                    format!("[profile {name}]\nrole_arn = {ROLE}\nsource_profile = {source}\n")
                };
                world.file("config", &(of("a", "b") + &of("b", "a")));
                world.set("AWS_PROFILE", "a");
            },
            "its source_profile leads back to it",
        ),
        (
            |world| {
                world.file("credentials", &keys_of("base"));
                world.file("config", "[default]\nrole_arn = arn:another\nsource_profile = base\n");
            },
            "role arn:another of STS at",
        ),
        (
            |world| {
                let token = world.file("web-token", "very-secret-indeed").display().to_string();
                world
                    .set("AWS_WEB_IDENTITY_TOKEN_FILE", token)
                    .set("AWS_ROLE_ARN", ROLE);
            },
            "InvalidIdentityToken",
        ),
        (
            |world| {
                world.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/role");
                world.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "very-secret-indeed");
            },
            "https, or an address of this host",
        ),
    ];
    for (prepare, expected) in rows {
        let mut world = World::new();
        prepare(&mut world);
        let client = world.client();
        let (kind, why) = refused(&client).await;
        assert_eq!(kind, UfsErrorKind::Denied, "{why}");
        assert!(why.contains(expected), "{why}");
        assert!(!why.contains(secret) && !why.contains(SECRET_KEY), "{why}");
    }
    let world = World::new();
    world.file("credentials", &keys_of("default"));
    let client = world.client();
    works(&client).await.unwrap();
    let shown = format!("{client:?}");
    assert!(!shown.contains(SECRET_KEY) && !shown.contains(ACCESS_KEY), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_taken_over_though_the_clock_is_wrong() {
    for ahead_s in [7200, -7200] {
        let world = World::new();
        world.server.habits(|habits| habits.clock_ahead_s = ahead_s);
        world.file("credentials", &keys_of("base"));
        world.file(
            "config",
            &format!("[default]\nrole_arn = {ROLE}\nsource_profile = base\n"),
        );
        let client = world.client();
        works(&client).await.unwrap();
        works(&client).await.unwrap();
        assert_eq!(world.server.seen("AssumeRole").len(), 2, "once in vain");
    }
}
