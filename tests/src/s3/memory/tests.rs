//! The server against a client that is not ours.

use super::*;
use crate::s3::boto3;

/// What boto3 prints of a few lines of Python; `code` may use `refused(call)`, which gives status and code of a refusal.
fn python(server: &MemoryS3, code: &str) -> String {
    let prelude = "from botocore.exceptions import ClientError\n\
        def refused(call):\n\
        \x20   try:\n\
        \x20       call()\n\
        \x20   except ClientError as e:\n\
        \x20       return (e.response['ResponseMetadata']['HTTPStatusCode'], e.response['Error']['Code'])\n\
        \x20   return 'taken'\n\
        B = 'bucket'\n";
    boto3(&server.endpoint(), &format!("{prelude}{code}")).trim().to_owned()
}

#[test]
fn keys_and_what_objects_carry_come_back_as_they_are() {
    let server = MemoryS3::start();
    let out = python(
        &server,
        r#"
keys = ['a//b', '../x', 'dir/', 'dir/k', 'e\u0301', '\u00e9', 'sp ace+plus%25', 'c\x01d', '.']
for key in keys:
    s3.put_object(Bucket=B, Key=key, Body=key.encode(), ContentType='text/x', CacheControl='no-store',
        Metadata={'a': 'b'}, Tagging='t=1', StorageClass='STANDARD_IA')
listed = []
for page in s3.get_paginator('list_objects_v2').paginate(Bucket=B, PaginationConfig={'PageSize': 2}):
    listed += [o['Key'] for o in page.get('Contents', [])]
assert listed == sorted(keys, key=lambda k: k.encode()), listed
page = s3.list_objects_v2(Bucket=B, Delimiter='/')
assert [p['Prefix'] for p in page['CommonPrefixes']] == ['../', 'a/', 'dir/'], page
for key in keys:
    got = s3.get_object(Bucket=B, Key=key)
    assert got['Body'].read() == key.encode()
    assert (got['ContentType'], got['CacheControl'], got['Metadata'], got['TagCount'], got['StorageClass']) == \
        ('text/x', 'no-store', {'a': 'b'}, 1, 'STANDARD_IA'), got
    assert got['ETag'] == '"%s"' % hashlib.md5(key.encode()).hexdigest()
s3.copy_object(Bucket=B, Key='copy', CopySource={'Bucket': B, 'Key': 'a//b'})
got = s3.head_object(Bucket=B, Key='copy')
assert got['Metadata'] == {'a': 'b'} and got['TagCount'] == 1 and 'StorageClass' not in got, got
answer = s3.delete_objects(Bucket=B, Delete={'Objects': [{'Key': 'a//b'}, {'Key': 'dir/'}, {'Key': 'gone'}]})
assert 'Errors' not in answer, answer
print(s3.get_object(Bucket=B, Key='copy', Range='bytes=1-2')['Body'].read().decode())
"#,
    );
    assert_eq!(out, "//");
    assert!(!server.keys().contains(&"a//b".to_owned()));
    assert_eq!(server.seen("CopyObject").len(), 1);
}

#[test]
fn uploads_in_parts_with_checksums() {
    let server = MemoryS3::start();
    let sum = |byte: u8| store::crc32c_text(crc_fast::crc32_iscsi(&vec![byte; 5 << 20]));
    let sums = format!("sums = ['', '{}', '{}']\n", sum(1), sum(2));
    let code = r#"
def upload(**more):
    u = s3.create_multipart_upload(Bucket=B, Key='big', ChecksumAlgorithm='CRC32C', Metadata={'m': '1'})['UploadId']
    parts = []
    for n in (1, 2):
        p = s3.upload_part(Bucket=B, Key='big', UploadId=u, PartNumber=n, Body=bytes([n]) * (5 << 20), ChecksumCRC32C=sums[n])
        parts.append({'PartNumber': n, 'ETag': p['ETag'], **more.get('sum', lambda p: {'ChecksumCRC32C': sums[n]})(p)})
    p = s3.upload_part_copy(Bucket=B, Key='big', UploadId=u, PartNumber=3, CopySource={'Bucket': B, 'Key': 'base'}, CopySourceRange='bytes=1-3')
    parts.append({'PartNumber': 3, 'ETag': p['CopyPartResult']['ETag'], 'ChecksumCRC32C': p['CopyPartResult']['ChecksumCRC32C']})
    return s3.complete_multipart_upload(Bucket=B, Key='big', UploadId=u, MultipartUpload={'Parts': parts})
s3.put_object(Bucket=B, Key='base', Body=b'01234')
upload()
got = s3.head_object(Bucket=B, Key='big', ChecksumMode='ENABLED')
assert got['ContentLength'] == (10 << 20) + 3 and got['ETag'].endswith('-3"') and got['Metadata'] == {'m': '1'}, got
assert got['ChecksumCRC32C'].endswith('-3'), got
assert s3.get_object(Bucket=B, Key='big', Range='bytes=-4')['Body'].read() == b'\x02123'
print(refused(lambda: upload(sum=lambda p: {})))
"#;
    let out = python(&server, &(sums + code));
    assert_eq!(out, "(400, 'InvalidRequest')");
    assert_eq!(server.uploads(), 1);
}

#[test]
fn it_refuses_as_aws_does() {
    let server = MemoryS3::start();
    server.put("p/f", Object::plain(Content::from(bytes::Bytes::from_static(b"here"))));
    let mut archived = Object::plain(Content::from(bytes::Bytes::from_static(b"cold")));
    archived.storage_class = "GLACIER".to_owned();
    server.put("cold", archived);
    server.forbid("DeleteObject", "p/");
    let out = python(
        &server,
        r#"
print(refused(lambda: s3.delete_object(Bucket=B, Key='p/f')))
print(s3.delete_objects(Bucket=B, Delete={'Objects': [{'Key': 'p/f'}]})['Errors'][0]['Code'])
print(refused(lambda: s3.get_object(Bucket=B, Key='cold')))
s3.restore_object(Bucket=B, Key='cold', RestoreRequest={'Days': 1})
print(s3.get_object(Bucket=B, Key='cold')['Body'].read().decode())
print(refused(lambda: s3.put_object(Bucket=B, Key='p/f', Body=b'', IfNoneMatch='*')))
print(refused(lambda: s3.put_object(Bucket=B, Key='no', Body=b'', IfMatch='"x"')))
print(refused(lambda: s3.get_object(Bucket=B, Key='p/f', IfMatch='"x"')))
print(refused(lambda: s3.get_object(Bucket='other', Key='k')))
print(refused(lambda: s3.get_object(Bucket=B, Key='p/f', Range='bytes=9-')))
print(refused(lambda: s3.put_object(Bucket=B, Key='k', Body=b'x', ContentMD5='1B2M2Y8AsgTpgAmY7PhCfg==')))
print(refused(lambda: s3.put_object(Bucket=B, Key='k', Body=b'x', ChecksumCRC32C='AAAAAA==')))
wrong = boto3.client('s3', endpoint_url=s3.meta.endpoint_url, region_name='us-east-1', aws_access_key_id='test-access',
    aws_secret_access_key='wrong', config=Config(s3={'addressing_style': 'path'}))
print(refused(lambda: wrong.get_object(Bucket=B, Key='p/f')))
"#,
    );
    let expected = "(403, 'AccessDenied')\nAccessDenied\n(403, 'InvalidObjectState')\ncold\n\
        (412, 'PreconditionFailed')\n(404, 'NoSuchKey')\n(412, 'PreconditionFailed')\n(404, 'NoSuchBucket')\n\
        (416, 'InvalidRange')\n(400, 'BadDigest')\n(400, 'BadDigest')\n(403, 'SignatureDoesNotMatch')";
    assert_eq!(out, expected);
}

#[test]
fn habits_change_while_it_serves() {
    let server = MemoryS3::start();
    server.habits(|habits| {
        habits.retention_s = Some(60);
        habits.write_conditions = Conditions::Refused(501, "NotImplemented");
    });
    let put = "print(refused(lambda: s3.put_object(Bucket=B, Key='k', Body=b'x', MORE)))\n";
    let plain = "s3.meta.events.register('before-sign.s3.PutObject', lambda request, **kw: \
        [request.headers.__delitem__(h) for h in list(request.headers) if 'checksum' in h.lower()])\n";
    let out = python(
        &server,
        &[
            plain,
            &put.replace("MORE", ""),
            &put.replace("MORE", "ContentMD5='ndTkYSaMgDT1yFZOFVxnpg=='"),
            &put.replace("MORE", "IfNoneMatch='*'"),
        ]
        .concat(),
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "(400, 'InvalidRequest')", "{out}");
    assert_eq!(lines[1], "taken", "{out}");
    assert_eq!(lines[2], "(501, 'NotImplemented')", "{out}");
    server.habits(|habits| *habits = Habits::default());
    server.habits(|habits| habits.encryption_required = Some("aws:kms"));
    server.fail(
        Fault::new(Act::Status(503, "SlowDown"))
            .on("PutObject")
            .key("slow")
            .times(1),
    );
    let out = python(
        &server,
        "print(refused(lambda: s3.put_object(Bucket=B, Key='k', Body=b'x')))\n\
         s3.put_object(Bucket=B, Key='slow', Body=b'x', ServerSideEncryption='aws:kms', SSEKMSKeyId='id')\n\
         print(s3.head_object(Bucket=B, Key='slow')['SSEKMSKeyId'])\n",
    );
    assert_eq!(out, "(403, 'AccessDenied')\nid");
    let statuses: Vec<u16> = server
        .seen("PutObject")
        .iter()
        .rev()
        .take(2)
        .map(|seen| seen.status)
        .collect();
    assert_eq!(statuses, [200, 503], "the log has the repetition");
    server.credentials(|known| known.values_mut().for_each(|known| known.expired = true));
    let out = python(&server, "print(refused(lambda: s3.list_objects_v2(Bucket=B)))");
    assert_eq!(out, "(400, 'ExpiredToken')");
}

#[test]
fn a_terabyte_takes_no_memory() {
    let server = MemoryS3::start();
    server.put("huge", Object::plain(Content::pattern(1, 1 << 40)));
    let out = python(
        &server,
        "g = s3.get_object(Bucket=B, Key='huge', Range='bytes=%d-%d' % ((1 << 39), (1 << 39) + 99))\n\
         print(g['ContentRange'], g['Body'].read().hex())\n",
    );
    let bytes = Content::pattern(1, 1 << 40).slice(1 << 39, 100).bytes();
    let start = 1u64 << 39;
    assert_eq!(
        out,
        format!("bytes {start}-{}/{} {}", start + 99, 1u64 << 40, answer::hex(&bytes))
    );
}

/// What gives keys speaks as the real ones do, and what it gave ends when it said.
#[test]
fn keys_for_a_while() {
    let server = MemoryS3::start();
    server.identity(|identity| identity.lifetime_s = 900);
    let endpoint = server.endpoint();
    let code = r#"
import os
def client(service, **more):
    return boto3.client(service, endpoint_url='HERE', region_name='us-east-1', **more)
def reads(given):
    own = client('s3', aws_access_key_id=given['AccessKeyId'], aws_secret_access_key=given['SecretAccessKey'],
        aws_session_token=given['SessionToken'])
    return own.list_objects_v2(Bucket=B)['KeyCount']
role = 'arn:aws:iam::123456789012:role/reader'
sts = client('sts', aws_access_key_id='KEY', aws_secret_access_key='SECRET')
given = sts.assume_role(RoleArn=role, RoleSessionName='me')['Credentials']
assert reads(given) == 0
assert refused(lambda: sts.assume_role(RoleArn=role + 'x', RoleSessionName='me')) == (403, 'AccessDenied')
web = sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName='me', WebIdentityToken='let-me-in')
assert reads(web['Credentials']) == 0
for name in [name for name in os.environ if name.startswith('AWS_')]:
    del os.environ[name]
os.environ.update(AWS_EC2_METADATA_SERVICE_ENDPOINT='HERE/', AWS_SHARED_CREDENTIALS_FILE='/dev/null', AWS_CONFIG_FILE='/dev/null')
from botocore.session import Session
found = Session().get_credentials()
assert found.method == 'iam-role', found.method
assert found.get_frozen_credentials().access_key == 'ASIA3'
print((given['Expiration'] - web['Credentials']['Expiration']).total_seconds() <= 0)
"#;
    let code = code
        .replace("HERE", &endpoint)
        .replace("'KEY'", &format!("'{ACCESS_KEY}'"))
        .replace("'SECRET'", &format!("'{SECRET_KEY}'"));
    assert_eq!(python(&server, &code), "True");
    server.credentials(|known| {
        let past = chrono::Utc::now() - chrono::TimeDelta::seconds(1);
        known.values_mut().for_each(|known| known.expires = Some(past));
    });
    let out = python(&server, "print(refused(lambda: s3.list_objects_v2(Bucket=B)))");
    assert_eq!(out, "(400, 'ExpiredToken')");
}
