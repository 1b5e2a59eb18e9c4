//! Texts: patterns, names, rules, and what S3 says.

use super::Seed;

const PATTERNS: [&str; 5] = [
    "# comment\n*.tmp\n/cache/\n!/cache/keep\n\nfolder/file.tmp",
    "**/node_modules/\n[a-z0-9_]?[!x]*\n\\#literal\n./here\na/b/node_modules",
    "/**/deep/**\n*.[ch]\n[[:alpha:]]*\n/home/*/.cache\nhome/me/.cache",
    "[]]\n[^]-a]\n[a\n\\\n!!\n/\n**\n]",
    "a*b*c*d*e*f\naXbXcXdXeXf",
];

const SNAPSHOTS: [&str; 9] = [
    "latest",
    "0123abcd",
    "host/web01@latest",
    "host/web01@2026-11-22",
    "vm/100@2026-11-22T10:00",
    "ct/200@2026-11-22T10:00:05.25Z",
    "ns1/ns2/host/x@2026-11-22 10:00:00+02:00",
    "host/x@2026-11-22T10:00:00+01:00[Europe/Berlin]",
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
];

const WORKLOADS: [&str; 6] = [
    "host/web01",
    "vm/100",
    "ns1/ns2/ct/200",
    "host/a.b-c_d",
    "db/postgres:main",
    "host/ü",
];

const WORDS: [&str; 14] = [
    "1d",
    "36h",
    "1w2d3h4m5s",
    "90 days",
    "1.5 GiB",
    "10MB",
    "4096",
    "512k",
    "keep-last=3",
    "last 5",
    "within 30d",
    "daily 7",
    "keep-last 3, keep-daily 7",
    "1y6m",
];

const S3_TEXTS: [&str; 8] = [
    "bytes 5-9/100",
    "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2029 00:00:00 GMT\"",
    "ongoing-request=\"true\"",
    "Sun, 22 Nov 2026 08:49:37 GMT",
    "2026-11-22T08:49:37.000Z",
    "[default]\naws_access_key_id = ONE\naws_secret_access_key=first=secret\n[profile lab]\naws_session_token = t\n",
    "s3://bucket/prefix?endpoint=https://s3.example.org:9000&region=eu&addressing=path",
    "s3://bucket?endpoint=http://[::1]:80",
];

const S3_DOCUMENTS: [&str; 5] = [
    "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"urn\"><IsTruncated>true</IsTruncated><Contents><Key>prefix/a&amp;b\
     </Key><LastModified>2026-11-22T08:49:37.000Z</LastModified><Size>5</Size></Contents><NextContinuationToken>t\
     </NextContinuationToken></ListBucketResult>",
    "<Error><Code>NoSuchKey</Code><Message>&#x20;<![CDATA[w]]></Message><Region>eu</Region></Error>",
    "<ListVersionsResult><Version><Key>k</Key><VersionId>v</VersionId></Version><DeleteMarker/></ListVersionsResult>",
    "<!DOCTYPE a><!-- c --><?p i?><a:b><c/></a:b>",
    "<ListMultipartUploadsResult><Upload><Key>prefix/k</Key><UploadId>u</UploadId><Initiated>2026-11-22T08:49:37Z\
     </Initiated></Upload></ListMultipartUploadsResult>",
];

pub fn seeds() -> Vec<Seed> {
    let lists: [(&'static str, &[&str]); 6] = [
        ("exclude", &PATTERNS),
        ("snapshot_names", &SNAPSHOTS),
        ("workload_names", &WORKLOADS),
        ("words", &WORDS),
        ("s3", &S3_TEXTS),
        ("s3", &S3_DOCUMENTS),
    ];
    let mut seeds = Vec::new();
    for (list, (target, texts)) in lists.into_iter().enumerate() {
        let numbered = texts.iter().enumerate();
        seeds.extend(
            numbered.map(|(at, text)| (target, format!("text-{list}-{at}"), text.as_bytes().to_vec())),
        );
    }
    seeds
}
