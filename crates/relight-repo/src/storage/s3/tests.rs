//! What the client makes of servers that fail, lie, or go away. Against real servers, see
//! `tests/storage_conformance_s3.rs`.

mod server;

use std::time::{Duration, Instant};

use self::server::{Asked, Reply, Server, error, reply};
use super::*;

fn plain() -> PutOptions {
    PutOptions::default()
}

fn page(objects: &[(&str, u64)], rest: &str) -> Reply {
    let mut body = String::from("<?xml version=\"1.0\"?><ListBucketResult xmlns=\"urn\">");
    for (key, size) in objects {
        let time = "2020-11-22T22:19:31.000Z";
        body.push_str(&format!(
            "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{time}</LastModified></Contents>"
        ));
    }
    body.push_str(rest);
    body.push_str("</ListBucketResult>");
    reply(200, &body)
}

fn with(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Reply {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, value.to_string()))
        .collect();
    Reply::Answer(status, headers, body.into())
}

#[test]
fn what_may_pass_is_repeated_and_waits_are_heeded() {
    let server = Server::start(|number, _| match number {
        0 => with(503, &[("retry-after", "1")], b""),
        1 => error(200 + 300, "InternalError"),
        2 => Reply::Close,
        _ => reply(200, ""),
    });
    let begun = Instant::now();
    server.storage().put("a", &[b"con", b"tent"], &plain()).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    assert!(
        asked
            .iter()
            .all(|asked| asked.is("PUT", "/bucket/p/a") && asked.body == b"content")
    );
    assert!(
        asked
            .iter()
            .all(|asked| !asked.headers.contains_key("transfer-encoding"))
    );
}

#[test]
fn what_is_definite_is_not_repeated() {
    for (status, code) in [
        (403, "AccessDenied"),
        (400, "InvalidArgument"),
        (507, ""),
        (501, "NotImplemented"),
    ] {
        let server = Server::start(move |_, _| error(status, code));
        server.storage().put("a", &[b"x"], &plain()).unwrap_err();
        assert_eq!(server.asked().len(), 1, "{status}");
    }
}

#[test]
fn a_server_that_hangs_is_given_up_in_time() {
    let server = Server::start(|_, _| Reply::Hang);
    let mut config = server.config();
    config.retries.attempts = 2;
    config.retries.timeout = Duration::from_millis(400);
    let storage =
        S3Storage::with_credentials(config, Credentials::new("k".into(), "s".into(), None)).unwrap();
    assert!(matches!(storage.get("a"), Err(StorageError::Unavailable { .. })));
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn nobody_there_is_told_soon_and_without_secrets() {
    let mut config = Server::start(|_, _| Reply::Close).config();
    config.endpoint = Some("http://127.0.0.1:1".into());
    let storage =
        S3Storage::with_credentials(config, Credentials::new("k".into(), "hunter2".into(), None)).unwrap();
    let error = storage.list("").unwrap_err();
    assert!(
        error.to_string().contains("s3://bucket/p at http://127.0.0.1:1"),
        "{error}"
    );
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!format!("{error:?} {storage:?}").contains("hunter2"));
}

#[test]
fn connections_that_were_closed_meanwhile_do_not_matter() {
    let server = Server::start(|_, _| Reply::AnswerAndClose(200));
    let storage = server.storage();
    for _ in 0..5 {
        storage.put("a", &[b"x"], &plain()).unwrap();
    }
}

#[test]
fn a_lost_answer_to_put_new_is_resolved_by_its_mark() {
    // The first try writes, its answer is lost; then the object is there.
    for ours in [true, false] {
        let mark = std::sync::Mutex::new(String::new());
        let server = Server::start(move |number, asked| match number {
            0 => {
                assert_eq!(asked.headers["if-none-match"], "*");
                *mark.lock().unwrap() = asked.headers[MARK].clone();
                Reply::Close
            }
            1 => error(412, "PreconditionFailed"),
            _ if ours => with(200, &[(MARK, &mark.lock().unwrap())], b""),
            _ => with(200, &[(MARK, "another")], b""),
        });
        let outcome = server.storage().put_new("a", &[b"x"], &plain());
        match ours {
            true => outcome.unwrap(),
            false => assert!(outcome.unwrap_err().is_already_exists()),
        }
        assert_eq!(
            server.lines(),
            ["PUT /bucket/p/a", "PUT /bucket/p/a", "HEAD /bucket/p/a"]
        );
    }
    let server = Server::start(|_, _| error(412, "PreconditionFailed"));
    assert!(
        server
            .storage()
            .put_new("a", &[b"x"], &plain())
            .unwrap_err()
            .is_already_exists()
    );
    assert_eq!(
        server.asked().len(),
        1,
        "without a lost answer there is nothing to resolve"
    );
}

/// Answers a multipart upload rightly, but for completing it.
fn upload(asked: &Asked, complete: impl FnOnce() -> Reply) -> Reply {
    if asked.is("POST", "/bucket/p/big?uploads=") {
        reply(
            200,
            "<InitiateMultipartUploadResult><UploadId>u&amp;1</UploadId></InitiateMultipartUploadResult>",
        )
    } else if asked.method == "PUT" {
        with(200, &[("etag", &format!("\"{}\"", asked.body.len()))], b"")
    } else if asked.is("POST", "/bucket/p/big?uploadId=u%261") {
        complete()
    } else {
        reply(204, "")
    }
}

const COMPLETE: &str = "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>";

#[test]
fn an_upload_is_done_when_its_completion_says_so_in_its_body() {
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |_, asked| {
        upload(asked, || {
            match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                // An error that comes with status 200, as the headers were sent long before it happened.
                0 => reply(200, "<Error><Code>InternalError</Code></Error>"),
                1 => Reply::CutAfter(20, COMPLETE.into()),
                _ => reply(200, COMPLETE),
            }
        })
    });
    let content: Vec<u8> = (0..1500u32).map(|n| n as u8).collect();
    server
        .storage()
        .put("big", &[&content[..700], &content[700..]], &plain())
        .unwrap();
    let asked = server.asked();
    let part = |n: usize| {
        let path = format!("/bucket/p/big?partNumber={n}&uploadId=u%261");
        asked
            .iter()
            .find(|asked| asked.is("PUT", &path))
            .unwrap()
            .body
            .clone()
    };
    assert_eq!([part(1), part(2), part(3), part(4)].concat(), content);
    let complete = String::from_utf8(asked.last().unwrap().body.clone()).unwrap();
    let last =
        "<Part><PartNumber>4</PartNumber><ETag>&quot;300&quot;</ETag></Part></CompleteMultipartUpload>";
    assert!(complete.ends_with(last), "{complete}");
    assert!(asked.iter().all(|asked| asked.method != "DELETE"));
}

#[test]
fn an_upload_that_fails_is_aborted() {
    let server =
        Server::start(|_, asked| upload(asked, || reply(200, "<Error><Code>InvalidPart</Code></Error>")));
    server.storage().put("big", &[&[1; 1500]], &plain()).unwrap_err();
    assert_eq!(
        server.lines().last().unwrap(),
        "DELETE /bucket/p/big?uploadId=u%261"
    );

    let server = Server::start(|_, asked| match asked.path.contains("partNumber=3") {
        true => error(507, "InsufficientStorage"),
        false => upload(asked, || reply(200, COMPLETE)),
    });
    let full = server.storage().put("big", &[&[1; 1500]], &plain()).unwrap_err();
    assert!(matches!(full, StorageError::Full { .. }), "{full}");
    assert_eq!(
        server.lines().last().unwrap(),
        "DELETE /bucket/p/big?uploadId=u%261"
    );
}

#[test]
fn an_upload_that_was_completed_without_our_knowing_is_done_again() {
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |_, asked| {
        upload(asked, || {
            match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Reply::Close,
                1 => error(404, "NoSuchUpload"),
                _ => reply(200, COMPLETE),
            }
        })
    });
    server.storage().put("big", &[&[1; 1500]], &plain()).unwrap();
    let begun = server
        .lines()
        .iter()
        .filter(|line| line.ends_with("?uploads="))
        .count();
    assert_eq!(begun, 2);
}

#[test]
fn lists_are_whole_or_fail() {
    let more = |token: &str| {
        format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>")
    };
    let server = Server::start(move |number, asked| match number {
        0 => page(
            &[("p/a/1", 5), ("p/a/folder/", 0), ("p/a/x&amp;y", 6)],
            &more("t 1"),
        ),
        // A page that breaks off is asked for again.
        1 => Reply::CutAfter(40, vec![b' '; 100]),
        2 => reply(200, "<ListBucketResult><Contents><Key>p/a/2</Key>"),
        _ => {
            assert!(
                asked
                    .path
                    .contains("continuation-token=t%201&list-type=2&prefix=p%2Fa%2F"),
                "{}",
                asked.path
            );
            page(&[("p/a/2", 7)], "<IsTruncated>false</IsTruncated>")
        }
    });
    let found = server.storage().list("a/").unwrap();
    let found: Vec<_> = found
        .into_iter()
        .map(|object| (object.key, object.size))
        .collect();
    assert_eq!(found, [("a/1".into(), 5), ("a/x&y".into(), 6), ("a/2".into(), 7)]);

    let bad: [fn() -> Reply; 6] = [
        || page(&[("p/a/1", 5)], "<IsTruncated>true</IsTruncated>"),
        || page(&[("q/a/1", 5)], ""),
        || page(&[], "<IsTruncated>perhaps</IsTruncated>"),
        || reply(200, "<html><body>welcome</body></html>"),
        || reply(200, ""),
        || error(404, "NoSuchBucket"),
    ];
    for reply in bad {
        let server = Server::start(move |_, _| reply());
        let error = server.storage().list("a/").unwrap_err();
        assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    }
    // A server that gives the same page for ever.
    let server = Server::start(move |_, _| page(&[("p/a/1", 5)], &more("same")));
    assert!(matches!(
        server.storage().list("a/"),
        Err(StorageError::Unavailable { .. })
    ));
}

#[test]
fn claims_and_probes_are_never_listed() {
    let server = Server::start(|_, _| page(&[("p/claims/a/1", 0), ("p/probe/1", 5), ("p/a", 1)], ""));
    let found = server.storage().list("").unwrap();
    assert_eq!(found.len(), 1);
}

#[test]
fn reads_that_break_off_are_repeated() {
    let server = Server::start(|number, _| match number {
        0 => Reply::CutAfter(3, b"content".into()),
        _ => reply(200, "content"),
    });
    assert_eq!(server.storage().get("a").unwrap(), b"content");
    let server = Server::start(|number, _| match number {
        0 => Reply::CutAfter(3, b"0123456789".into()),
        _ => with(206, &[("content-range", "bytes 2-5/10")], b"2345"),
    });
    let mut buffer = [0; 4];
    server.storage().get_range("a", 2, &mut buffer).unwrap();
    assert_eq!(&buffer, b"2345");
    assert_eq!(server.asked()[0].headers["range"], "bytes=2-5");
}

#[test]
fn ranges_are_taken_from_where_the_server_says() {
    let read = |reply: fn() -> Reply| {
        let server = Server::start(move |_, _| reply());
        let mut buffer = [0; 4];
        server.storage().get_range("a", 2, &mut buffer).map(|()| buffer)
    };
    assert_eq!(
        &read(|| with(206, &[("content-range", "bytes 2-5/10")], b"2345")).unwrap(),
        b"2345"
    );
    // The whole object, as the range was ignored; and a range without the status for it.
    assert_eq!(&read(|| reply(200, "0123456789")).unwrap(), b"2345");
    assert_eq!(
        &read(|| with(200, &[("content-range", "bytes 2-5/10")], b"2345")).unwrap(),
        b"2345"
    );
    for short in [
        || with(206, &[("content-range", "bytes 2-3/4")], b"23"),
        || reply(200, "0123"),
        || reply(200, "0"),
        || error(416, "InvalidRange"),
    ] {
        let error = read(short).unwrap_err();
        assert!(
            matches!(error, StorageError::Short { wanted_end: 6, .. }),
            "{error}"
        );
    }
    for wrong in [
        || with(206, &[("content-range", "bytes 3-6/10")], b"3456"),
        || with(206, &[("content-range", "pages 2-5/10")], b"2345"),
        || with(206, &[], b"2345"),
    ] {
        assert!(matches!(read(wrong), Err(StorageError::Unavailable { .. })));
    }
}

#[test]
fn missing_is_only_what_s3_says_is_missing() {
    let head = |reply: fn(&Asked) -> Reply| {
        let server = Server::start(move |_, asked| reply(asked));
        server.storage().head("a").unwrap_err()
    };
    fn answer(asked: &Asked, code: &str) -> Reply {
        if asked.method == "HEAD" {
            reply(404, "")
        } else {
            error(404, code)
        }
    }
    assert!(head(|asked| answer(asked, "NoSuchKey")).is_not_found());
    assert!(matches!(
        head(|asked| answer(asked, "NoSuchBucket")),
        StorageError::Unavailable { .. }
    ));
    assert!(matches!(
        head(|_| reply(404, "<html/>")),
        StorageError::Unavailable { .. }
    ));
    assert!(matches!(head(|_| reply(403, "")), StorageError::Denied { .. }));
}

#[test]
fn a_clock_that_is_wrong_is_made_up_for() {
    let server = Server::start(
        |_, asked| match asked.headers["x-amz-date"].starts_with("20400101T") {
            true => reply(200, ""),
            false => with(
                403,
                &[("date", "Sun, 01 Jan 2040 12:00:00 GMT")],
                b"<Error><Code>RequestTimeTooSkewed</Code></Error>",
            ),
        },
    );
    let storage = server.storage();
    storage.put("a", &[b"x"], &plain()).unwrap();
    storage.put("a", &[b"x"], &plain()).unwrap();
    assert_eq!(server.asked().len(), 3, "corrected once");
}

#[test]
fn renewed_credentials_are_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials");
    let write = |key: &str| {
        let text =
            format!("[default]\naws_access_key_id={key}\naws_secret_access_key=s\naws_session_token=t\n");
        std::fs::write(&path, text).unwrap();
    };
    write("old");
    let server = Server::start(
        |_, asked| match asked.headers["authorization"].contains("Credential=new/") {
            true => reply(200, ""),
            false => error(403, "ExpiredToken"),
        },
    );
    let mut config = server.config();
    config.credentials_file = Some(path.clone());
    let storage = S3Storage::with_environment(config, &|_| None).unwrap();
    let denied = storage.put("a", &[b"x"], &plain()).unwrap_err();
    assert!(matches!(denied, StorageError::Denied { .. }));
    assert_eq!(server.asked()[0].headers["x-amz-security-token"], "t");
    write("new");
    storage.put("a", &[b"x"], &plain()).unwrap();
}

#[test]
fn conditions_are_believed_only_after_a_probe() {
    for (heeded, second) in [(true, 412), (false, 200), (false, 501)] {
        let server = Server::start(move |number, asked| match (number, asked.method.as_str()) {
            (0, "PUT") => reply(200, ""),
            (1, "PUT") => reply(second, ""),
            (_, "GET") if asked.path.contains("versioning") => reply(200, "<VersioningConfiguration/>"),
            (_, "GET") if asked.path.contains("object-lock") => {
                error(404, "ObjectLockConfigurationNotFoundError")
            }
            (_, "GET") => page(&[], ""),
            _ => reply(204, ""),
        });
        let mut config = server.config();
        config.conditions = Conditions::Probe;
        let storage =
            S3Storage::with_credentials(config, Credentials::new("k".into(), "s".into(), None)).unwrap();
        let capabilities = storage.capabilities();
        assert_eq!(
            capabilities,
            Capabilities {
                conditional_put: heeded,
                retention: false
            }
        );
        let asked = server.asked().len();
        assert_eq!(storage.capabilities(), capabilities);
        assert_eq!(server.asked().len(), asked, "what is known is not asked again");
        assert!(
            server
                .lines()
                .iter()
                .any(|line| line.starts_with("DELETE /bucket/p/probe/")),
            "the probe is removed"
        );
    }
    // Not to be reached is not the same as "ignores conditions".
    let server = Server::start(|_, _| reply(503, ""));
    let mut config = server.config();
    config.conditions = Conditions::Probe;
    let storage =
        S3Storage::with_credentials(config, Credentials::new("k".into(), "s".into(), None)).unwrap();
    let error = storage.put_new("a", &[b"x"], &plain()).unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
}

#[test]
fn uploads_and_probes_of_the_dead_are_removed_and_those_of_the_living_are_not() {
    let server = Server::start(|_, asked| match asked.method.as_str() {
        "GET" if asked.path.contains("uploads") => {
            let upload = |key: &str, id: &str, begun: &str| {
                format!(
                    "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{begun}</Initiated></Upload>"
                )
            };
            let now = jiff::Timestamp::now().to_string();
            let uploads = [
                upload("p/packs/a", "old", "2020-01-01T00:00:00.000Z"),
                upload("p/packs/b", "new", &now),
                upload("other/c", "foreign", "2020-01-01T00:00:00.000Z"),
            ];
            let body = uploads.concat();
            reply(
                200,
                &format!("<ListMultipartUploadsResult>{body}</ListMultipartUploadsResult>"),
            )
        }
        "GET" if asked.path.contains("probe") => page(&[("p/probe/1", 5)], ""),
        "GET" => page(&[], ""),
        _ => reply(204, ""),
    });
    // By way of the interface, as a collection does it.
    let storage: &dyn Storage = &server.storage();
    assert_eq!(storage.sweep().unwrap(), 2);
    let deleted: Vec<String> = server
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("DELETE"))
        .collect();
    assert_eq!(
        deleted,
        [
            "DELETE /bucket/p/probe/1",
            "DELETE /bucket/p/packs/a?uploadId=old"
        ]
    );
}
