//! Operations on one object.

use super::answer::{Answer, Refused, escape, hex};
use super::content::Content;
use super::request::{Request, records};
use super::rules::Conditions;
use super::store::{CUSTOMER, Object, SOURCE_CUSTOMER, State, crc32c_text, http_date, quoted, unquoted};

impl State {
    /// Whether If-Match and If-None-Match hold for what is there.
    pub(super) fn check_write(&mut self, request: &Request) -> Result<(), Refused> {
        if self.habits.write_conditions == Conditions::Ignored {
            return Ok(());
        }
        let found = self.bucket(&request.bucket)?.objects.get(&request.key);
        let failed = || {
            Err(Refused::new(
                412,
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold",
            ))
        };
        match (request.header("if-none-match"), request.header("if-match"), found) {
            (Some("*"), _, Some(_)) => failed(),
            (_, Some(_), None) => Err(Refused::no_such_key()),
            (_, Some(wanted), Some(object)) if unquoted(wanted) != object.etag => failed(),
            _ => Ok(()),
        }
    }

    fn may_replace(&mut self, request: &Request) -> Result<(), Refused> {
        self.allow("PutObject", &request.key)?;
        if request.header("x-amz-tagging").is_some() {
            self.allow("PutObjectTagging", &request.key)?;
        }
        self.bucket(&request.bucket).map(drop)
    }

    pub(super) fn put(&mut self, request: &Request) -> Result<Answer, Refused> {
        self.may_replace(request)?;
        self.habits.check_sums(request)?;
        self.check_write(request)?;
        let mut object = Object::described(request, &self.habits)?;
        object.content = request.body.content.clone();
        object.etag = hex(&request.body.md5);
        object.crc32c = Some(crc32c_text(request.body.crc32c)).filter(|_| self.habits.crc32c);
        let answer = Answer::ok()
            .header("etag", &quoted(&object.etag))
            .maybe("x-amz-checksum-crc32c", object.crc32c.as_deref());
        self.bucket(&request.bucket)?
            .objects
            .insert(request.key.clone(), object);
        Ok(answer)
    }

    pub(super) fn get(&mut self, request: &Request) -> Result<Answer, Refused> {
        let is_get = request.method == http::Method::GET;
        self.allow("GetObject", &request.key)?;
        let object = self.object(&request.bucket, &request.key)?;
        object.check_key(request, CUSTOMER)?;
        if is_get && object.is_archived() {
            let why = "The operation is not valid for the object's storage class";
            return Err(Refused::new(403, "InvalidObjectState", why));
        }
        if self.habits.read_conditions == Conditions::Honoured {
            if request
                .header("if-match")
                .is_some_and(|wanted| unquoted(wanted) != object.etag)
            {
                return Err(Refused::new(
                    412,
                    "PreconditionFailed",
                    "At least one of the pre-conditions did not hold",
                ));
            }
            if request
                .header("if-none-match")
                .is_some_and(|known| unquoted(known) == object.etag)
            {
                return Ok(Answer::ok().status(304).header("etag", &quoted(&object.etag)));
            }
        }
        let length = object.content.length();
        let asked = request
            .header("x-amz-checksum-mode")
            .is_some_and(|mode| mode.eq_ignore_ascii_case("enabled"));
        let mut answer = object.describe(Answer::ok(), asked && self.habits.crc32c);
        match request.header("range") {
            Some(range) => {
                let (start, end) = range_of(range, length)?;
                // Of a part of an object no checksum is known.
                if end - start < length {
                    answer.headers.remove("x-amz-checksum-crc32c");
                }
                answer = answer
                    .status(206)
                    .header("content-range", &format!("bytes {start}-{}/{length}", end - 1));
                answer.body = object.content.slice(start, end - start);
            }
            None => answer.body = object.content.clone(),
        }
        if !is_get {
            let length = answer.body.length();
            answer.body = Content::default();
            answer = answer.header("content-length", &length.to_string());
        }
        Ok(answer)
    }

    pub(super) fn delete(&mut self, request: &Request) -> Result<Answer, Refused> {
        let found = self
            .bucket(&request.bucket)?
            .objects
            .get(&request.key)
            .map(|object| object.etag.clone());
        let wanted = request
            .header("if-match")
            .filter(|_| self.habits.delete_conditions == Conditions::Honoured);
        match (wanted, found) {
            (Some(_), None) => return Err(Refused::no_such_key()),
            (Some(wanted), Some(found)) if unquoted(wanted) != found => {
                return Err(Refused::new(
                    412,
                    "PreconditionFailed",
                    "At least one of the pre-conditions did not hold",
                ));
            }
            _ => {}
        }
        self.remove(&request.bucket, &request.key)?;
        Ok(Answer::ok().status(204))
    }

    fn remove(&mut self, bucket: &str, key: &str) -> Result<(), Refused> {
        self.allow("DeleteObject", key)?;
        let objects = &mut self.bucket(bucket)?.objects;
        let locked = objects.get(key).and_then(|object| object.retain_until);
        if locked.is_some_and(|until| until > chrono::Utc::now()) {
            return Err(Refused::new(
                403,
                "AccessDenied",
                "Access Denied because object protected by object lock.",
            ));
        }
        objects.remove(key);
        Ok(())
    }

    pub(super) fn delete_many(&mut self, request: &Request) -> Result<Answer, Refused> {
        if !self.habits.deletes_many {
            return Err(Refused::new(501, "NotImplemented", "DeleteObjects is not implemented"));
        }
        let sums = ["content-md5", "x-amz-checksum-crc32c", "x-amz-checksum-crc32"];
        if sums.iter().all(|name| request.header(name).is_none()) {
            return Err(Refused::new(
                400,
                "InvalidRequest",
                "Missing required header for this request: Content-MD5",
            ));
        }
        self.habits.check_sums(request)?;
        let keys = records(&request.body.content.bytes(), "Object")?;
        if keys.len() > 1000 {
            return Err(Refused::new(400, "MalformedXML", "More than 1000 keys"));
        }
        let mut document = String::from("<DeleteResult>");
        for record in keys {
            let key = record
                .iter()
                .find(|(name, _)| name == "Key")
                .map_or("", |(_, key)| key.as_str());
            if let Err(refused) = self.remove(&request.bucket, key) {
                document.push_str(&format!(
                    "<Error><Key>{}</Key><Code>{}</Code><Message>{}</Message></Error>",
                    escape(key),
                    refused.code,
                    escape(&refused.message)
                ));
            }
        }
        document.push_str("</DeleteResult>");
        Ok(Answer::xml(document))
    }

    /// The source of a copy, if it may be copied and is what was expected.
    pub(super) fn source(&mut self, request: &Request) -> Result<(String, Object), Refused> {
        let (bucket, key) = request.copy_source()?;
        self.allow("GetObject", &key)?;
        let object = self.object(&bucket, &key)?;
        object.check_key(request, SOURCE_CUSTOMER)?;
        if object.is_archived() {
            let why = "Operation is not valid for the source object's storage class";
            return Err(Refused::new(403, "InvalidObjectState", why));
        }
        let wanted = request.header("x-amz-copy-source-if-match");
        if self.habits.copy_conditions == Conditions::Honoured
            && wanted.is_some_and(|wanted| unquoted(wanted) != object.etag)
        {
            return Err(Refused::new(
                412,
                "PreconditionFailed",
                "At least one of the pre-conditions did not hold",
            ));
        }
        Ok((key, object))
    }

    pub(super) fn copy(&mut self, request: &Request) -> Result<Answer, Refused> {
        self.may_replace(request)?;
        let (source_key, source) = self.source(request)?;
        self.check_write(request)?;
        let mut object = Object::described(request, &self.habits)?;
        if request.header("x-amz-metadata-directive") != Some("REPLACE") {
            (object.headers, object.metadata) = (source.headers.clone(), source.metadata.clone());
        }
        if request.header("x-amz-tagging-directive") != Some("REPLACE") {
            if !source.tags.is_empty() {
                self.allow("GetObjectTagging", &source_key)?;
                self.allow("PutObjectTagging", &request.key)?;
            }
            object.tags = source.tags.clone();
        }
        if source.content.length() > 5 << 30 {
            return Err(Refused::new(
                400,
                "InvalidRequest",
                "The specified copy source is larger than the maximum allowable size",
            ));
        }
        object.etag = match source.etag.contains('-') {
            // AWS makes one part of it; nobody can tell its MD5 from here.
            true => hex(&self.next_id().to_be_bytes().repeat(2)),
            false => source.etag.clone(),
        };
        object.crc32c = source.crc32c.clone();
        object.content = source.content.clone();
        let document = format!(
            "<CopyObjectResult><ETag>{}</ETag><LastModified>{}</LastModified></CopyObjectResult>",
            escape(&quoted(&object.etag)),
            object.modified.format("%Y-%m-%dT%H:%M:%S.000Z")
        );
        self.bucket(&request.bucket)?
            .objects
            .insert(request.key.clone(), object);
        Ok(Answer::xml(document))
    }

    pub(super) fn tags(&mut self, request: &Request) -> Result<Answer, Refused> {
        self.allow("GetObjectTagging", &request.key)?;
        let object = self.object(&request.bucket, &request.key)?;
        let tags: String = object
            .tags
            .iter()
            .map(|(name, value)| format!("<Tag><Key>{}</Key><Value>{}</Value></Tag>", escape(name), escape(value)))
            .collect();
        Ok(Answer::xml(format!("<Tagging><TagSet>{tags}</TagSet></Tagging>")))
    }

    pub(super) fn put_tags(&mut self, request: &Request) -> Result<Answer, Refused> {
        self.allow("PutObjectTagging", &request.key)?;
        self.object(&request.bucket, &request.key)?;
        let mut tags = Vec::new();
        for record in records(&request.body.content.bytes(), "Tag")? {
            let text = |wanted: &str| {
                record
                    .iter()
                    .find(|(name, _)| name == wanted)
                    .map_or(String::new(), |(_, value)| value.clone())
            };
            tags.push((text("Key"), text("Value")));
        }
        if let Some(object) = self.bucket(&request.bucket)?.objects.get_mut(&request.key) {
            object.tags = tags;
        }
        Ok(Answer::ok())
    }

    /// An archive is restored at once: tests have no hours.
    pub(super) fn restore(&mut self, request: &Request) -> Result<Answer, Refused> {
        self.allow("RestoreObject", &request.key)?;
        let until = chrono::Utc::now() + chrono::Duration::from_std(self.habits.restored_for).expect("a time");
        let object = self
            .bucket(&request.bucket)?
            .objects
            .get_mut(&request.key)
            .ok_or_else(Refused::no_such_key)?;
        if !matches!(object.storage_class.as_str(), "GLACIER" | "DEEP_ARCHIVE") {
            return Err(Refused::new(
                403,
                "InvalidObjectState",
                "Restore is not allowed for the object's current storage class",
            ));
        }
        object.restored_until = Some(until);
        Ok(Answer::ok()
            .status(202)
            .header("x-amz-restore-until", &http_date(until)))
    }
}

/// `bytes=A-B`, `bytes=A-` and `bytes=-N` as start and end.
pub(super) fn range_of(text: &str, length: u64) -> Result<(u64, u64), Refused> {
    let wrong = || Refused::new(416, "InvalidRange", "The requested range is not satisfiable");
    let (start, last) = text
        .strip_prefix("bytes=")
        .and_then(|text| text.split_once('-'))
        .ok_or_else(wrong)?;
    let (start, end) = match (start.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), Ok(last)) => (start, last.saturating_add(1).min(length)),
        (Ok(start), Err(_)) if last.is_empty() => (start, length),
        (Err(_), Ok(count)) if start.is_empty() => (length.saturating_sub(count), length),
        _ => return Err(wrong()),
    };
    if start < end { Ok((start, end)) } else { Err(wrong()) }
}
