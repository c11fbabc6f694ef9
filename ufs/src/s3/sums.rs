//! Checksums in the form that S3 has them in, and bodies held against them.

use alluxio_common::checksum::{Crc32c, crc32c};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::{UfsError, UfsErrorKind, UfsResult};

/// Bodies up to this are held back until they are known to be right: as much as a worker asks for at once. Of larger ones the
/// last chunk is held back.
const HELD_BYTES_MAX: u64 = 16 << 20;

pub(super) fn md5_base64(body: &[u8]) -> String {
    use md5::Digest;
    base64(&md5::Md5::digest(body))
}

pub(super) fn crc32c_base64(body: &[u8]) -> String {
    base64(&crc32c(body).to_be_bytes())
}

/// The stream, or an error where its bytes are not those of `told`.
pub(super) fn held_against(
    stream: BoxStream<'static, UfsResult<Bytes>>,
    told: String,
    length: u64,
    what: String,
) -> BoxStream<'static, UfsResult<Bytes>> {
    if length <= HELD_BYTES_MAX {
        let all = async move {
            let chunks: Vec<Bytes> = stream.try_collect().await?;
            let mut sum = Crc32c::new();
            chunks.iter().for_each(|chunk| sum.update(chunk));
            // What is too short is told of, and asked for again, by whoever counts.
            let bytes: usize = chunks.iter().map(Bytes::len).sum();
            if bytes as u64 == length {
                check(&sum, &told, &what)?;
            }
            Ok(stream::iter(chunks.into_iter().map(Ok)))
        };
        return stream::once(all).try_flatten().boxed();
    }
    let state = Some((stream, Crc32c::new(), Option::<Bytes>::None, told, what));
    stream::unfold(state, |state| async move {
        let (mut stream, mut sum, mut held, told, what) = state?;
        loop {
            match stream.next().await {
                Some(Ok(chunk)) => {
                    sum.update(&chunk);
                    if let Some(ready) = held.replace(chunk) {
                        return Some((Ok(ready), Some((stream, sum, held, told, what))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                // What went before has been given away: asking for the rest again would make nothing right.
                None => {
                    let checked =
                        check(&sum, &told, &what).map_err(|error| UfsError::new(UfsErrorKind::Other, error.message));
                    return held.map(|last| (checked.map(|()| last), None));
                }
            }
        }
    })
    .boxed()
}

fn check(sum: &Crc32c, told: &str, what: &str) -> UfsResult<()> {
    let found = base64(&sum.finish().to_be_bytes());
    if found == told {
        return Ok(());
    }
    let why = format!("{what}: the bytes that came have the CRC32C {found} instead of {told}");
    Err(UfsError::new(UfsErrorKind::Unreachable, why))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let three = chunk.iter().fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place > chunk.len() {
                out.push('=');
            } else {
                out.push(char::from(ALPHABET[(three >> (18 - 6 * place)) as usize & 63]));
            }
        }
    }
    out
}

/// `None` if it is no base64.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        bits = (bits << 6) | u32::try_from(digit).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(from_base64(coded).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(from_base64("no!"), None);
        assert_eq!(md5_base64(b""), "1B2M2Y8AsgTpgAmY7PhCfg==");
        // The check value of CRC-32/ISCSI.
        assert_eq!(crc32c_base64(b"123456789"), base64(&0xe306_9283_u32.to_be_bytes()));
    }

    #[tokio::test]
    async fn wrong_bytes_are_an_error_before_the_last_of_them() {
        let chunks = |last: &'static [u8]| {
            let chunks = [Bytes::from_static(b"one"), Bytes::from_static(last)];
            stream::iter(chunks.map(Ok)).boxed()
        };
        for length in [6, HELD_BYTES_MAX + 1] {
            let told = crc32c_base64(b"onetwo");
            let right = held_against(chunks(b"two"), told.clone(), length, "x".to_owned());
            let right: Vec<Bytes> = right.try_collect().await.unwrap();
            assert_eq!(right.concat(), b"onetwo");
            let mut wrong = held_against(chunks(b"twO"), told, length, "x".to_owned());
            let mut passed = Vec::new();
            let error = loop {
                match wrong.next().await.unwrap() {
                    Ok(chunk) => passed.extend_from_slice(&chunk),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.is_retryable(), length == 6, "{error}");
            assert_eq!(passed.len(), if length == 6 { 0 } else { 3 });
        }
    }
}
