//! HTTP, and what goes wrong on the wire.

use std::convert::Infallible;
use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};

use super::answer::{Answer, Refused};
use super::content::{Content, Receiver};
use super::request::Request;
use super::rules::Act;
use super::store::{State, http_date};
use super::{Seen, Shared, identity, signature};

/// Bytes of a body in one frame.
const FRAME_BYTES: u64 = 256 << 10;

type Body = StreamBody<BoxStream<'static, std::io::Result<Frame<Bytes>>>>;

/// Serves until it is dropped.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    tls: Option<tokio_rustls::TlsAcceptor>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener for tokio");
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, tls) = (shared.clone(), tls.clone());
        tokio::spawn(async move {
            // Small answers must not wait for the acknowledgement of heads.
            stream.set_nodelay(true).ok();
            let stream = stream.into_std().expect("its own socket");
            let socket = Arc::new(stream.try_clone().expect("a second descriptor"));
            let stream = tokio::net::TcpStream::from_std(stream).expect("a stream for tokio");
            let service = hyper::service::service_fn(move |request| answer(request, shared.clone(), socket.clone()));
            let builder = hyper::server::conn::http1::Builder::new();
            // Clients go away as they like, and faults end connections.
            let _ = match tls {
                None => builder.serve_connection(TokioIo::new(stream), service).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => builder.serve_connection(TokioIo::new(stream), service).await,
                    Err(_) => return,
                },
            };
        });
    }
}

async fn answer(
    request: http::Request<Incoming>,
    shared: Arc<Shared>,
    socket: Arc<TcpStream>,
) -> std::io::Result<http::Response<Body>> {
    let (head, mut incoming) = request.into_parts();
    let mut receiver = Receiver::new(&shared.spool);
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(std::io::Error::other)?;
        if let Some(data) = frame.data_ref() {
            receiver.take(data);
        }
    }
    let request = match Request::new(&head, receiver.finish()) {
        Ok(request) => request,
        Err(refused) => return Ok(response(refused.answer(), None)),
    };
    let operation = identity::operation(&request).unwrap_or_else(|| request.operation());
    let act = {
        let mut state = shared.state();
        state
            .faults
            .iter_mut()
            .find_map(|fault| fault.strikes(operation, &request.key).then(|| fault.act.clone()))
    };
    let is_head = request.method == http::Method::HEAD;
    match act {
        Some(Act::Status(status, code)) => {
            let mut refused = Refused::new(status, code, "said the fault").answer();
            if is_head {
                refused.body = Content::default();
            }
            log(&shared, &request, status);
            Ok(response(refused, None))
        }
        Some(Act::Foreign(status)) => {
            let mut foreign = Answer::ok().status(status).header("content-type", "text/html");
            if !is_head {
                foreign.body = Content::from(Bytes::from_static(b"<html>a proxy</html>"));
            }
            log(&shared, &request, status);
            Ok(response(foreign, None))
        }
        Some(Act::Stall) => {
            log(&shared, &request, 0);
            match std::future::pending::<Infallible>().await {}
        }
        Some(Act::Reset) => {
            log(&shared, &request, 0);
            Err(reset(&socket))
        }
        act => {
            if let Some(Act::Delay(delay)) = act {
                tokio::time::sleep(delay).await;
            }
            let mut answer = match identity::operation(&request) {
                Some(operation) => identity::answer(&mut shared.state(), &request, operation),
                None => perform(&mut shared.state(), &request),
            };
            let ahead_s = shared.state().habits.clock_ahead_s;
            if ahead_s != 0 {
                let now = chrono::Utc::now() + chrono::TimeDelta::seconds(ahead_s);
                answer = answer.header("date", &http_date(now));
            }
            log(&shared, &request, answer.status.as_u16());
            match act {
                Some(Act::LoseAnswer) => return Err(reset(&socket)),
                Some(Act::RepeatToken) => tamper(&mut answer, request.parameter("continuation-token").or(Some("t"))),
                Some(Act::LoseToken) => tamper(&mut answer, None),
                _ => {}
            }
            Ok(response(answer, act))
        }
    }
}

fn log(shared: &Shared, request: &Request, status: u16) {
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let seen = Seen {
        operation: identity::operation(request).unwrap_or_else(|| request.operation()),
        bucket: request.bucket.clone(),
        key: request.key.clone(),
        query: request.query.iter().cloned().collect(),
        headers: request.headers.iter().map(header).collect(),
        body_bytes: request.body.content.length(),
        status,
    };
    shared.state().log.push(seen);
}

/// What becomes of a request that no fault keeps from it.
fn perform(state: &mut State, request: &Request) -> Answer {
    let done = (|| {
        state.check_rate()?;
        let habits = &state.habits;
        if !(habits.public && request.header("authorization").is_none()) {
            signature::verify(request, &state.credentials, habits, "s3")?;
        }
        habits.check(request)?;
        match request.operation() {
            "ListObjectsV2" => state.list(request),
            "HeadBucket" => state.bucket(&request.bucket).map(|_| Answer::ok()),
            "GetBucketLocation" => Ok(Answer::xml("<LocationConstraint/>".to_owned())),
            "DeleteObjects" => state.delete_many(request),
            "GetObject" | "HeadObject" => state.get(request),
            "PutObject" => state.put(request),
            "CopyObject" => state.copy(request),
            "DeleteObject" => state.delete(request),
            "GetObjectTagging" => state.tags(request),
            "PutObjectTagging" => state.put_tags(request),
            "RestoreObject" => state.restore(request),
            "CreateMultipartUpload" => state.begin_upload(request),
            "UploadPart" => state.put_part(request),
            "UploadPartCopy" => state.copy_part(request),
            "CompleteMultipartUpload" => state.complete_upload(request),
            "AbortMultipartUpload" => state.abort_upload(request),
            _ => Err(Refused::new(
                501,
                "NotImplemented",
                "This server does not know this request",
            )),
        }
    })();
    let mut answer = done.unwrap_or_else(|refused: Refused| refused.answer());
    if request.method == http::Method::HEAD {
        answer.body = Content::default();
    }
    answer
}

/// Makes a listing say that it goes on, at `token` or nobody knows where.
fn tamper(answer: &mut Answer, token: Option<&str>) {
    let text = String::from_utf8_lossy(&answer.body.bytes()).into_owned();
    let without = match (
        text.split_once("<NextContinuationToken>"),
        text.split_once("</NextContinuationToken>"),
    ) {
        (Some((before, _)), Some((_, after))) => format!("{before}{after}"),
        _ => text,
    };
    let token = token.map_or(String::new(), |token| {
        format!("<NextContinuationToken>{token}</NextContinuationToken>")
    });
    let truncated = format!("<IsTruncated>true</IsTruncated>{token}");
    let text = without
        .replace("<IsTruncated>false</IsTruncated>", "<IsTruncated>true</IsTruncated>")
        .replace("<IsTruncated>true</IsTruncated>", &truncated);
    answer.body = Content::from(Bytes::from(text));
}

/// The connection ends with RST when its last descriptor is closed.
fn reset(socket: &TcpStream) -> std::io::Error {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(socket, sockopt::Linger, &linger).expect("a socket that lingers not");
    std::io::ErrorKind::ConnectionReset.into()
}

fn response(answer: Answer, act: Option<Act>) -> http::Response<Body> {
    let length = answer.body.length();
    let mut headers = answer.headers;
    let cut = || std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
    let whole = frames(answer.body.clone());
    // Of a longer body no length is told: of what comes after it nobody would read.
    if act.as_ref().is_none_or(|act| !matches!(act, Act::LongBody(_))) && !headers.contains_key("content-length") {
        headers.insert("content-length", length.into());
    }
    let body = match act {
        Some(Act::ShortBody(bytes)) => {
            let end = stream::once(async move { Err(cut()) });
            frames(answer.body.slice(0, bytes)).chain(end).boxed()
        }
        Some(Act::StallBody(bytes)) => frames(answer.body.slice(0, bytes)).chain(stream::pending()).boxed(),
        Some(Act::LongBody(bytes)) => whole
            .chain(frames(Content::from(Bytes::from(vec![b'+'; bytes]))))
            .boxed(),
        Some(Act::WrongByte) => frames(answer.body)
            .enumerate()
            .map(|(index, frame)| match (index, frame) {
                (0, Ok(frame)) => Ok(frame.map_data(|data| {
                    let mut data = data.to_vec();
                    data[0] ^= 1;
                    data.into()
                })),
                (_, frame) => frame,
            })
            .boxed(),
        _ => whole.boxed(),
    };
    let mut response = http::Response::new(StreamBody::new(body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = headers;
    response
}

fn frames(content: Content) -> BoxStream<'static, std::io::Result<Frame<Bytes>>> {
    let length = content.length();
    stream::iter((0..length).step_by(FRAME_BYTES as usize))
        .map(move |start| Ok(Frame::data(content.slice(start, FRAME_BYTES).bytes())))
        .boxed()
}
