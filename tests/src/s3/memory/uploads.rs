//! Uploads in parts.

use std::collections::BTreeMap;

use md5::Digest;

use super::answer::{Answer, Refused, base64, escape, hex};
use super::content::Content;
use super::objects::range_of;
use super::request::{Request, records};
use super::store::{CUSTOMER, Object, Part, State, Upload, crc32c_text, quoted, unquoted};

fn no_such_upload() -> Refused {
    Refused::new(404, "NoSuchUpload", "The specified upload does not exist.")
}

impl State {
    fn upload(&mut self, request: &Request) -> Result<&mut Upload, Refused> {
        let id = request.parameter("uploadId").unwrap_or("").to_owned();
        let upload = self.bucket(&request.bucket)?.uploads.get_mut(&id);
        upload
            .filter(|upload| upload.key == request.key)
            .ok_or_else(no_such_upload)
    }

    pub(super) fn begin_upload(&mut self, request: &Request) -> Result<Answer, Refused> {
        self.allow("PutObject", &request.key)?;
        if request.header("x-amz-tagging").is_some() {
            self.allow("PutObjectTagging", &request.key)?;
        }
        let upload = Upload {
            key: request.key.clone(),
            object: Object::described(request, &self.habits)?,
            crc32c: self.habits.crc32c && request.header("x-amz-checksum-algorithm") == Some("CRC32C"),
            parts: BTreeMap::new(),
        };
        let id = format!("upload-{}", self.next_id());
        let document = format!(
            "<InitiateMultipartUploadResult><Bucket>{}</Bucket><Key>{}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
            escape(&request.bucket),
            escape(&request.key)
        );
        self.bucket(&request.bucket)?.uploads.insert(id, upload);
        Ok(Answer::xml(document))
    }

    pub(super) fn put_part(&mut self, request: &Request) -> Result<Answer, Refused> {
        self.allow("PutObject", &request.key)?;
        self.habits.check_sums(request)?;
        let known = self.habits.crc32c;
        let upload = self.upload(request)?;
        upload.object.check_key(request, CUSTOMER)?;
        let told = request.header("x-amz-checksum-crc32c").is_some();
        if known && told != upload.crc32c {
            let (expected, actual) = if told { ("null", "crc32c") } else { ("crc32c", "null") };
            let why = format!(
                "Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}"
            );
            return Err(Refused::new(400, "InvalidRequest", &why));
        }
        let part = Part {
            content: request.body.content.clone(),
            md5: request.body.md5,
            crc32c: request.body.crc32c,
        };
        let etag = quoted(&hex(&part.md5));
        upload.parts.insert(part_number(request)?, part);
        Ok(Answer::ok().header("etag", &etag))
    }

    pub(super) fn copy_part(&mut self, request: &Request) -> Result<Answer, Refused> {
        self.allow("PutObject", &request.key)?;
        let (_, source) = self.source(request)?;
        let length = source.content.length();
        let (start, end) = match request.header("x-amz-copy-source-range") {
            Some(range) => {
                let last = range.rsplit('-').next().and_then(|last| last.parse::<u64>().ok());
                if last.is_none_or(|last| last >= length) {
                    return Err(Refused::new(
                        400,
                        "InvalidArgument",
                        "Range specified is not valid for source object",
                    ));
                }
                range_of(range, length)?
            }
            None => (0, length),
        };
        let content = source.content.slice(start, end - start);
        let (md5, crc32c) = sums(&content);
        let upload = self.upload(request)?;
        upload.object.check_key(request, CUSTOMER)?;
        let sum = match upload.crc32c {
            true => format!("<ChecksumCRC32C>{}</ChecksumCRC32C>", crc32c_text(crc32c)),
            false => String::new(),
        };
        upload
            .parts
            .insert(part_number(request)?, Part { content, md5, crc32c });
        let etag = escape(&quoted(&hex(&md5)));
        Ok(Answer::xml(format!(
            "<CopyPartResult><ETag>{etag}</ETag>{sum}</CopyPartResult>"
        )))
    }

    pub(super) fn complete_upload(&mut self, request: &Request) -> Result<Answer, Refused> {
        self.allow("PutObject", &request.key)?;
        let smallest = self.habits.part_bytes_min;
        let known = self.habits.crc32c;
        let upload = self.upload(request)?.clone();
        self.check_write(request)?;
        let told = records(&request.body.content.bytes(), "Part")?;
        let (mut object, mut tags, mut crcs, mut before) = (upload.object.clone(), md5::Md5::default(), Vec::new(), 0);
        for (index, record) in told.iter().enumerate() {
            let text = |wanted: &str| {
                record
                    .iter()
                    .find(|(name, _)| name == wanted)
                    .map(|(_, value)| value.as_str())
            };
            let number: u32 = text("PartNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
            let invalid = || {
                Refused::new(
                    400,
                    "InvalidPart",
                    "One or more of the specified parts could not be found.",
                )
            };
            let part = upload.parts.get(&number).ok_or_else(invalid)?;
            if number <= before {
                return Err(Refused::new(
                    400,
                    "InvalidPartOrder",
                    "The list of parts was not in ascending order.",
                ));
            }
            if text("ETag").map(unquoted) != Some(&hex(&part.md5)) {
                return Err(invalid());
            }
            let sum = text("ChecksumCRC32C");
            if upload.crc32c && sum.is_none() {
                let why = "The upload was created using a crc32c checksum. The complete request must include the checksum for each part.";
                return Err(Refused::new(400, "InvalidRequest", why));
            }
            if known && sum.is_some_and(|sum| sum != crc32c_text(part.crc32c)) {
                return Err(invalid());
            }
            if index + 1 < told.len() && part.content.length() < smallest {
                return Err(Refused::new(
                    400,
                    "EntityTooSmall",
                    "Your proposed upload is smaller than the minimum allowed size",
                ));
            }
            tags.update(part.md5);
            crcs.extend(part.crc32c.to_be_bytes());
            object.content = object.content.followed_by(&part.content);
            before = number;
        }
        if told.is_empty() {
            return Err(Refused::new(400, "MalformedXML", "No parts"));
        }
        object.etag = format!("{}-{}", hex(&tags.finalize()), told.len());
        let sum = crc_fast::crc32_iscsi(&crcs).to_be_bytes();
        object.crc32c = upload.crc32c.then(|| format!("{}-{}", base64(&sum), told.len()));
        object.modified = chrono::Utc::now();
        let etag = escape(&quoted(&object.etag));
        let id = request.parameter("uploadId").unwrap_or("").to_owned();
        let bucket = self.bucket(&request.bucket)?;
        bucket.uploads.remove(&id);
        bucket.objects.insert(request.key.clone(), object);
        Ok(Answer::xml(format!(
            "<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        )))
    }

    pub(super) fn abort_upload(&mut self, request: &Request) -> Result<Answer, Refused> {
        self.allow("AbortMultipartUpload", &request.key)?;
        self.upload(request)?;
        let id = request.parameter("uploadId").unwrap_or("").to_owned();
        self.bucket(&request.bucket)?.uploads.remove(&id);
        Ok(Answer::ok().status(204))
    }
}

fn part_number(request: &Request) -> Result<u32, Refused> {
    let number = request.parameter("partNumber").and_then(|number| number.parse().ok());
    number.filter(|number| (1..=10_000).contains(number)).ok_or_else(|| {
        Refused::new(
            400,
            "InvalidArgument",
            "Part number must be an integer between 1 and 10000, inclusive",
        )
    })
}

/// Sums of content that was not received just now; of more than this they are made up, for patterns have no end.
fn sums(content: &Content) -> ([u8; 16], u32) {
    const READ_MAX: u64 = 64 << 20;
    let head = content.slice(0, READ_MAX.min(content.length())).bytes();
    let mut md5 = md5::Md5::default();
    md5.update(&head);
    md5.update(content.length().to_be_bytes());
    (md5.finalize().into(), crc_fast::crc32_iscsi(&head))
}
