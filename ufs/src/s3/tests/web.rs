//! Private authorities, proxies, and a bucket that is elsewhere.

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};

use super::*;

/// A world with keys, over TLS, whose authority is in a file.
fn secure() -> (World, String) {
    let mut world = World::over(MemoryS3::start_tls());
    world.file("credentials", &keys_of("default"));
    let authority = world.file("authority.pem", MemoryS3::authority()).display().to_string();
    world.set("AWS_EC2_METADATA_DISABLED", "true");
    (world, authority)
}

const FAST: (&str, &str) = ("alluxio.underfs.s3.max.error.retry", "0");

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_where_it_is_named() {
    let (mut world, authority) = secure();
    let client = world.client_with(&[FAST]).unwrap();
    let (kind, why) = refused(&client).await;
    assert_eq!(kind, UfsErrorKind::Unreachable);
    assert!(why.contains("certificate"), "{why}");
    let named = world
        .client_with(&[("alluxio.underfs.s3.ca.bundle", &authority)])
        .unwrap();
    works(&named).await.unwrap();
    world.set("AWS_CA_BUNDLE", &authority);
    works(&world.client()).await.unwrap();
    // Services of credentials are trusted by the same.
    world.file("credentials", &keys_of("base"));
    world.file(
        "config",
        "[default]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = base\n",
    );
    works(&world.client()).await.unwrap();
    assert_eq!(world.server.seen("AssumeRole").len(), 1);

    let empty = world.file("empty.pem", "no certificate").display().to_string();
    let error = world
        .client_with(&[("alluxio.underfs.s3.ca.bundle", &empty)])
        .unwrap_err();
    assert!(error.message.contains("it holds no certificate in PEM"), "{error}");
}

/// A proxy for what goes in clear gets the whole URL; the server itself can play it.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_used_for_all_but_what_is_named() {
    let world = || {
        let mut world = World::new();
        world.file("credentials", &keys_of("default"));
        world.set("AWS_ENDPOINT_URL_S3", "http://s3.nowhere.test");
        let address = world.server.endpoint();
        (world, address)
    };
    let (mut plain, address) = world();
    let error = plain.client_with(&[FAST]).unwrap();
    assert_eq!(
        refused(&error).await.0,
        UfsErrorKind::Unreachable,
        "there is no such host"
    );
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let (mut world, address) = world();
        world.set(name, &address);
        works(&world.client()).await.unwrap();
        assert_eq!(world.server.log()[0].headers["host"], "s3.nowhere.test");
        world.set("NO_PROXY", "other.test,.nowhere.test");
        let except = world.client_with(&[FAST]).unwrap();
        assert_eq!(refused(&except).await.0, UfsErrorKind::Unreachable);
    }
    let port = address.rsplit(':').next().unwrap();
    let of_keys = [
        ("alluxio.underfs.s3.proxy.host", "127.0.0.1"),
        ("alluxio.underfs.s3.proxy.port", port),
    ];
    // They go before the environment.
    plain.set("HTTP_PROXY", "http://127.0.0.1:1");
    works(&plain.client_with(&of_keys).unwrap()).await.unwrap();
    plain.set("HTTP_PROXY", "http://u:pass word@[");
    let error = plain.client_with(&[]).unwrap_err();
    assert!(
        error.message.contains("HTTP_PROXY") && !error.message.contains("pass"),
        "{error}"
    );
}

/// A proxy that tunnels to the server, whatever host it is asked for; it returns what it was asked.
async fn tunnel(server: &MemoryS3) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = server.endpoint().split_once("://").unwrap().1.to_owned();
    let serving = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        let mut upstream = tokio::net::TcpStream::connect(server).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        // The client ends it as it likes.
        let _ = copy_bidirectional(&mut client, &mut upstream).await;
        String::from_utf8(head).unwrap().lines().map(str::to_owned).collect()
    });
    (address, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_through_a_proxy_s_tunnel() {
    let (mut world, authority) = secure();
    let (proxy, serving) = tunnel(&world.server).await;
    world.set("AWS_CA_BUNDLE", authority).set("HTTPS_PROXY", proxy);
    world.set("AWS_ENDPOINT_URL_S3", "https://s3.test");
    let client = world.client();
    client.head("f").await.unwrap();
    assert_eq!(world.server.log()[0].headers["host"], "s3.test");
    drop(client);
    let asked = serving.await.unwrap();
    assert_eq!(asked[0], "CONNECT s3.test:443 HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_in_another_region_is_found_and_remembered() {
    for status in [400, 301] {
        let world = World::new();
        world.file("credentials", &keys_of("default"));
        world.server.habits(|habits| {
            habits.region = "eu-west-1".to_owned();
            habits.region_status = status;
        });
        // By a HEAD, whose refusal has no body, and by a listing.
        for head in [true, false] {
            let client = world.client();
            world.server.clear_log();
            match head {
                true => drop(client.head("f").await.unwrap()),
                false => drop(list(&client).await.unwrap()),
            }
            works(&client).await.unwrap();
            let log = world.server.log();
            let refused = log.iter().filter(|seen| seen.status == status);
            assert!(refused.count() <= 2, "it is told once: {log:#?}");
        }
    }
}
