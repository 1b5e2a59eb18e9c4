//! Lists, page by page to the end.

use jiff::Timestamp;

use super::client::{Request, Unread};
use super::xml::Element;
use super::{Failed, Reason, Result, S3Storage};
use crate::storage::ObjectInfo;

/// One version of an object, or a marker that hides those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub id: String,
}

impl S3Storage {
    /// Every object under `prefix`, claims and probes included (`ListObjectsV2`).
    pub(super) fn list_all(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let full = self.full(prefix);
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("list-type", "2"), ("prefix", full.as_str())];
            if let Some(token) = &token {
                query.push(("continuation-token", token));
            }
            let request = Request {
                method: "GET",
                query: &query,
                ..Request::default()
            };
            let page = self.client.run(&request, |answer| {
                let page = answer.document("ListBucketResult")?;
                let objects = self.objects(&page, &full)?;
                Ok((objects, next(&page, "NextContinuationToken", token.as_deref())?))
            });
            let (objects, following) = page.map_err(|failed| self.error(failed, "list", prefix))?;
            found.extend(objects);
            match following {
                Some(following) => token = Some(following),
                None => return Ok(found),
            }
        }
    }

    pub(super) fn objects(&self, page: &Element, full: &str) -> Result<Vec<ObjectInfo>, Unread> {
        let mut objects = Vec::new();
        for object in page.all("Contents") {
            let broken = |what: &str| Unread::Broken(format!("the list has an object {what}"));
            let key = object.raw_text_of("Key");
            if !key.starts_with(full) {
                return Err(broken("that was not asked for"));
            }
            // A "folder" that some tool made; not an object of ours.
            let Some(own) = key
                .strip_prefix(&self.prefix)
                .filter(|own| !own.is_empty() && !own.ends_with('/'))
            else {
                continue;
            };
            let size = object
                .text_of("Size")
                .parse()
                .map_err(|_| broken("without a size"))?;
            let modified = time(object.text_of("LastModified")).ok_or_else(|| broken("without a time"))?;
            objects.push(ObjectInfo {
                key: own.into(),
                size,
                modified: modified.as_millisecond(),
            });
        }
        Ok(objects)
    }

    /// All versions and delete markers of exactly this key (in the bucket), newest first.
    pub(super) fn versions_of(&self, full: &str) -> Result<Vec<Version>, Failed> {
        let mut found = Vec::new();
        let mut markers: Option<(String, String)> = None;
        loop {
            let mut query = vec![("versions", ""), ("prefix", full)];
            if let Some((key, version)) = &markers {
                query.push(("key-marker", key));
                query.push(("version-id-marker", version));
            }
            let request = Request {
                method: "GET",
                query: &query,
                ..Request::default()
            };
            let (versions, following) = self.client.run(&request, |answer| {
                let page = answer.document("ListVersionsResult")?;
                let mut versions = Vec::new();
                let mut beyond = false;
                for entry in &page.children {
                    if !matches!(entry.name.as_str(), "Version" | "DeleteMarker") {
                        continue;
                    }
                    // Sorted by key: what follows has the key as a prefix only.
                    if entry.raw_text_of("Key") != full {
                        beyond = true;
                        continue;
                    }
                    versions.push(Version {
                        id: entry.text_of("VersionId").into(),
                    });
                }
                let previous = markers.as_ref().map(|(key, version)| format!("{key} {version}"));
                let following = match page.text_of("IsTruncated") == "true" && !beyond {
                    false => None,
                    true => {
                        let key = page.raw_text_of("NextKeyMarker").to_string();
                        let version = page.text_of("NextVersionIdMarker").to_string();
                        if key.is_empty() || previous == Some(format!("{key} {version}")) {
                            return Err(Unread::Broken("the list of versions does not go on".into()));
                        }
                        Some((key, version))
                    }
                };
                Ok((versions, following))
            })?;
            found.extend(versions);
            match following {
                Some(following) => markers = Some(following),
                None => return Ok(found),
            }
        }
    }

    /// Uploads under this storage's prefix that were begun and neither completed nor aborted: key in the bucket, id,
    /// and when they were begun.
    pub(super) fn unfinished_uploads(&self) -> Result<Vec<(String, String, Timestamp)>, Failed> {
        let mut found = Vec::new();
        let mut markers: Option<(String, String)> = None;
        loop {
            let mut query = vec![("uploads", ""), ("prefix", self.prefix.as_str())];
            if let Some((key, upload)) = &markers {
                query.push(("key-marker", key));
                query.push(("upload-id-marker", upload));
            }
            let request = Request {
                method: "GET",
                query: &query,
                ..Request::default()
            };
            let page = self
                .client
                .run(&request, |answer| answer.document("ListMultipartUploadsResult"))?;
            for upload in page.all("Upload") {
                let key = upload.raw_text_of("Key");
                if let (true, Some(begun)) =
                    (key.starts_with(&self.prefix), time(upload.text_of("Initiated")))
                {
                    found.push((key.into(), upload.text_of("UploadId").into(), begun));
                }
            }
            if page.text_of("IsTruncated") != "true" {
                return Ok(found);
            }
            let following = (
                page.raw_text_of("NextKeyMarker").to_string(),
                page.text_of("NextUploadIdMarker").to_string(),
            );
            if following.0.is_empty() || markers.as_ref() == Some(&following) {
                let reason = Reason::Unreachable("the list of uploads does not go on".into());
                return Err(Failed {
                    reason,
                    uncertain: false,
                });
            }
            markers = Some(following);
        }
    }
}

/// Where the next page begins, if there is one.
pub(super) fn next(page: &Element, name: &str, previous: Option<&str>) -> Result<Option<String>, Unread> {
    match page.text_of("IsTruncated") {
        "true" => {}
        "false" | "" => return Ok(None),
        other => {
            return Err(Unread::Broken(format!(
                "the list is neither whole nor not: {other}"
            )));
        }
    }
    let token = page.raw_text_of(name);
    if token.is_empty() || Some(token) == previous {
        return Err(Unread::Broken(
            "the list says that it goes on, but not where".into(),
        ));
    }
    Ok(Some(token.into()))
}

/// A time in XML (ISO 8601).
pub(super) fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}
