//! `/workloads/{name}/recovery-points`: what can be brought back, and what is in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relight_model::plan::Method;
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use relight_pxar::{EntryKind, FileTime, Node};
use relight_workloads::files::browse::{Kind, Place as InSnapshot, TreeView, View, join, printable};
use relight_workloads::files::find::{Match, find_by};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::point::{Point, one, readable, refused};
use super::point_edit::is_damaged;
use super::{Desk, limit, paths, schema};
use crate::kinds;

/// So long a search may take; what was found until then is told.
const SEARCH: Duration = Duration::from_secs(15);
/// So much is found at most, however it is paged through.
const FOUND: usize = 10_000;
/// The longest text that is searched for, in bytes.
const LONGEST: usize = 256;

const POINTS: &str = "/api/v1/workloads/{name}/recovery-points";
const POINT: &str = "/api/v1/workloads/{name}/recovery-points/{snapshot}";
const FILES: &str = "/api/v1/workloads/{name}/recovery-points/{snapshot}/files";

pub(super) fn operations(table: &mut Table<'_>) {
    let fields = || {
        vec![
            ("repository", schema::text()),
            ("snapshot", schema::text()),
            ("time", schema::time()),
            ("size", schema::count()),
            ("protected", schema::truth()),
            ("complete", schema::truth()),
            ("verified", schema::maybe(schema::time())),
            ("damaged", schema::truth()),
        ]
    };
    let list = Operation::get(
        POINTS,
        "Recovery points of a workload whose contents the caller may read, newest first; needs Datastore.Read",
        schema::list(schema::object(fields())),
    )
    .with("name", Place::Path, schema::text(), "such as vm%2F100")
    .with("until", Place::Query, schema::time(), "made at this time or before")
    .paged("from", "from this one on, the first being 0");
    table.add(list, points);
    let mut all = fields();
    let archive = schema::object(vec![
        ("name", schema::text()),
        ("path", schema::text()),
        ("kind", schema::text()),
        ("size", schema::maybe(schema::count())),
        ("saved-from", schema::maybe(schema::text())),
    ]);
    all.extend([
        ("archives", schema::list(archive)),
        ("kind", schema::one_of(&["files", "image", "postgres", "other"])),
        ("readable", schema::truth()),
        ("remark", schema::maybe(schema::text())),
        ("roots", schema::list(schema::text())),
    ]);
    let single = Operation::get(
        POINT,
        "A recovery point: what is in it, and below which folders of the server it can be restored",
        schema::object(all),
    )
    .with("name", Place::Path, schema::text(), "such as vm%2F100")
    .with(
        "snapshot",
        Place::Path,
        schema::text(),
        "its id, or at least the first six characters",
    );
    table.add(single, point);
    let entry = schema::object(vec![
        ("name", schema::text()),
        ("path", schema::text()),
        ("kind", schema::text()),
        ("size", schema::maybe(schema::count())),
        ("modified", schema::maybe(schema::time())),
        ("mode", schema::maybe(schema::count())),
        ("target", schema::maybe(schema::text())),
    ]);
    let files = Operation::get(
        FILES,
        "What is in a folder of a recovery point, by name; or what has a text in its name, below that folder. Paths are \
         percent-encoded where they are not plain UTF-8",
        schema::object(vec![
            ("path", schema::text()),
            ("shown", schema::text()),
            ("entries", schema::list(entry)),
            ("complete", schema::truth()),
        ]),
    )
    .with("name", Place::Path, schema::text(), "such as vm%2F100")
    .with("snapshot", Place::Path, schema::text(), "its id")
    .with("path", Place::Query, schema::text(), "a folder; nothing is the recovery point itself")
    .with("search", Place::Query, schema::text(), "a part of a name, or a pattern with * and ?; case does not matter")
    .paged("from", "from this one on, the first being 0");
    table.add(files, entries);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    until: Option<Timestamp>,
    from: Option<usize>,
    limit: Option<u32>,
}

fn points(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let limit = limit(wanted.limit)?;
    let mut found = readable(desk, call, &wanted.name, None)?;
    found.retain(|point| wanted.until.is_none_or(|until| point.snapshot().time <= until));
    let from = wanted.from.unwrap_or(0);
    let page: Vec<Value> = found.iter().skip(from).take(limit).map(shown).collect();
    let next = from.saturating_add(page.len());
    let next = (next < found.len() && !page.is_empty()).then_some(next);
    Ok(Answer::data(page)?.with("next", next))
}

fn shown(point: &Point) -> Value {
    let snapshot = point.snapshot();
    let verification = point.marks.as_ref().and_then(|marks| marks.verification.as_ref());
    json!({
        "repository": point.repository,
        "snapshot": snapshot.id.to_string(),
        "time": snapshot.time,
        "size": snapshot.figures.logical,
        "protected": point.marks.as_ref().is_some_and(|marks| marks.protected),
        "complete": snapshot.incomplete.is_empty(),
        "verified": verification.filter(|found| found.good).map(|found| found.time),
        "damaged": is_damaged(point.marks.as_ref()),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    name: String,
    snapshot: String,
}

fn point(desk: &Desk, call: &Call, wanted: One) -> ApiResult<Answer> {
    let point = one(desk, call, &wanted.name, &wanted.snapshot, None)?;
    let mut value = shown(&point);
    let readable = !point.is_sealed()?;
    let view = desk.open.view(&point);
    let kind = kinds::of_snapshot(point.snapshot()).map(|kind| kind.method());
    let remark = match (readable, kind) {
        (false, _) => Some(
            "The client that made it encrypted it, and this server has no key for it: restore it where that key is.".to_owned(),
        ),
        (true, Some(Method::BaseBackup)) => Some(format!(
            "This is a base backup of {}, a PostgreSQL cluster. Its files alone are no working cluster: restore the cluster to the moment \
             you choose, here or on the machine where it shall run with `relight postgres restore`.",
            point.workload
        )),
        _ => None,
    };
    value["archives"] = top(&view).into();
    value["kind"] = match kind {
        Some(Method::Files) => "files",
        Some(Method::Image) => "image",
        Some(Method::BaseBackup) => "postgres",
        _ => "other",
    }
    .into();
    value["readable"] = readable.into();
    value["remark"] = remark.into();
    let roots = desk.restore.roots.iter().map(|root| root.display().to_string());
    value["roots"] = roots.collect::<Vec<_>>().into();
    Answer::data(value)
}

/// What is at the root of a recovery point.
fn top(view: &View) -> Vec<Value> {
    let tree = |tree: &TreeView| {
        let live = tree.path.as_deref().and_then(|path| {
            relight_workloads::files::live_bytes(view.snapshot(), std::path::Path::new(path))
        });
        json!({
            "name": tree.name,
            "path": paths::told(tree.name.as_bytes()),
            "kind": Kind::Directory,
            "size": live,
            "saved-from": tree.path,
        })
    };
    let trees = view.trees().iter().map(tree);
    let archives = view.archives().map(|archive| {
        let name = archive
            .name
            .strip_suffix(relight_workloads::image::IMAGE)
            .unwrap_or(&archive.name);
        json!({
            "name": archive.name,
            "path": paths::told(archive.name.as_bytes()),
            "kind": relight_workloads::files::compare::kind_of(archive),
            "size": archive.root.size,
            "saved-from": view.snapshot().attributes.get(&format!("image.{name}.path")),
        })
    });
    trees.chain(archives).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Looked {
    name: String,
    snapshot: String,
    path: Option<String>,
    search: Option<String>,
    from: Option<usize>,
    limit: Option<u32>,
}

fn entries(desk: &Desk, call: &Call, looked: Looked) -> ApiResult<Answer> {
    let limit = limit(looked.limit)?;
    let point = one(desk, call, &looked.name, &looked.snapshot, None)?;
    point.require_readable()?;
    let view = desk.open.view(&point);
    let path = paths::bytes(looked.path.as_deref().unwrap_or(""))?;
    let place = view.at(&path).map_err(refused)?;
    let from = looked.from.unwrap_or(0);
    let search = looked
        .search
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty());
    // One more tells whether there is a next page.
    let wanted = limit + 1;
    let (mut found, complete) = match (search, &place) {
        (Some(text), _) => search_in(&view, &place, text, from, wanted)?,
        (None, InSnapshot::Root) => (
            top(&view)
                .into_iter()
                .map(as_entry)
                .skip(from)
                .take(wanted)
                .collect(),
            true,
        ),
        (None, InSnapshot::Entry { tree, node, path }) if matches!(node.kind(), EntryKind::Directory) => {
            (children(tree, node, path, from, wanted)?, true)
        }
        (None, _) => {
            return Err(ApiError::bad_request(format!(
                "{} is no folder",
                printable(&path)
            )));
        }
    };
    let more = found.len() > limit;
    found.truncate(limit);
    let next = more.then(|| from.saturating_add(limit));
    let own = place_path(&place);
    let data = json!({
        "path": paths::told(&own),
        "shown": printable(&own),
        "entries": found,
        "complete": complete,
    });
    Ok(Answer::data(data)?.with("next", next))
}

/// The path of a place from the root of the snapshot.
pub(super) fn place_path(place: &InSnapshot<'_>) -> Vec<u8> {
    match place {
        InSnapshot::Root => Vec::new(),
        InSnapshot::Entry { tree, path, .. } => join(tree.name.as_bytes(), path),
        InSnapshot::Archive(archive) => archive.name.clone().into_bytes(),
    }
}

/// What is at the root, as what is in a folder is told.
fn as_entry(mut top: Value) -> Value {
    if let Some(fields) = top.as_object_mut() {
        fields.insert("modified".into(), Value::Null);
        fields.insert("mode".into(), Value::Null);
        fields.insert("target".into(), Value::Null);
    }
    top
}

fn time(time: FileTime) -> Option<Timestamp> {
    Timestamp::new(time.secs, i32::try_from(time.nanos).unwrap_or(0)).ok()
}

fn children(tree: &TreeView, node: &Node, path: &[u8], from: usize, most: usize) -> ApiResult<Vec<Value>> {
    let mut found = Vec::new();
    let children = tree.children(node).map_err(refused)?;
    for child in children.skip(from).take(most) {
        let child = child.map_err(refused)?;
        let resolved = tree.resolved(&child).map_err(refused)?;
        let stat = resolved
            .stat()
            .map_err(|error| refused(relight_workloads::WorkloadError::Archive(error)))?
            .unwrap_or_default();
        let (size, target) = match resolved.kind() {
            EntryKind::File { size, .. } => (Some(size), None),
            EntryKind::Symlink { target } => (None, Some(printable(target))),
            _ => (None, None),
        };
        let whole = join(tree.name.as_bytes(), &join(path, child.name()));
        found.push(json!({
            "name": printable(child.name()),
            "path": paths::told(&whole),
            "kind": Kind::of(&resolved.kind(), stat.mode),
            "size": size,
            "modified": time(stat.mtime),
            "mode": stat.mode & 0o7777,
            "target": target,
        }));
    }
    Ok(found)
}

/// What has a text in its name, at and below a place. False: not everything was looked at.
fn search_in(
    view: &View,
    place: &InSnapshot<'_>,
    text: &str,
    from: usize,
    most: usize,
) -> ApiResult<(Vec<Value>, bool)> {
    if text.len() > LONGEST || from > FOUND {
        return Err(ApiError::bad_request(format!(
            "a text to search for is at most {LONGEST} bytes long, and the first {FOUND} that have it are found: be more exact"
        )));
    }
    let wanted = Name::new(text);
    let below = place_path(place);
    let trees: Vec<&TreeView> = match place {
        InSnapshot::Root => view.trees().iter().collect(),
        InSnapshot::Entry { tree, .. } => vec![tree],
        InSnapshot::Archive(_) => Vec::new(),
    };
    let is_below = |path: &[u8]| {
        below.is_empty()
            || path
                .strip_prefix(&below[..])
                .is_some_and(|rest| rest.first() == Some(&b'/'))
    };
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let mut found: Vec<Match> = Vec::new();
    let enough = from.saturating_add(most);
    for tree in trees {
        let here = tree.name.as_bytes();
        let matches = |path: &[u8], _: bool| {
            if began.elapsed() > SEARCH {
                stop.store(true, Ordering::Relaxed);
            }
            // Each entry is asked for by both its paths; only that in the snapshot counts.
            let inside = path
                .strip_prefix(here)
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')));
            inside && is_below(path) && wanted.is_in(path.rsplit(|&byte| byte == b'/').next().unwrap_or(path))
        };
        match find_by(tree, &matches, enough - found.len().min(enough), &stop) {
            Ok(more) => found.extend(more),
            Err(_) if stop.load(Ordering::Relaxed) => break,
            Err(error) => return Err(refused(error)),
        }
        if found.len() >= enough {
            break;
        }
    }
    let complete = !stop.load(Ordering::Relaxed);
    let told = |one: &Match| {
        json!({
            "name": printable(&one.path),
            "path": paths::told(&one.path),
            "kind": one.kind,
            "size": one.size,
            "modified": time(one.mtime),
            "mode": Value::Null,
            "target": Value::Null,
        })
    };
    Ok((found.iter().skip(from).take(most).map(told).collect(), complete))
}

/// A part of a name, or a pattern for all of it, without regard to case.
struct Name {
    text: Vec<u8>,
    pattern: bool,
}

impl Name {
    fn new(text: &str) -> Self {
        let text = text.to_lowercase().into_bytes();
        Self {
            pattern: text.contains(&b'*') || text.contains(&b'?'),
            text,
        }
    }

    fn is_in(&self, name: &[u8]) -> bool {
        let name = match std::str::from_utf8(name) {
            Ok(name) => name.to_lowercase().into_bytes(),
            Err(_) => name.to_ascii_lowercase(),
        };
        match self.pattern {
            true => glob(&self.text, &name),
            false => name.windows(self.text.len()).any(|part| part == self.text),
        }
    }
}

/// Whether a pattern with `*` and `?` matches all of a name: in time that is the product of their lengths at most.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut in_name) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match star {
                Some((place, since)) => {
                    star = Some((place, since + 1));
                    at = place + 1;
                    in_name = since + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_are_found_by_a_part_or_a_pattern() {
        for (text, name, found) in [
            ("port", "Report.PDF", true),
            ("PDF", "report.pdf", true),
            ("*.pdf", "report.pdf", true),
            ("*.pdf", "report.pdf.bak", false),
            ("r?port*", "report", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("ÄPF", "Äpfel.txt", true),
            ("*", "", true),
        ] {
            assert_eq!(Name::new(text).is_in(name.as_bytes()), found, "{text} {name}");
        }
        assert!(Name::new("b").is_in(b"a\xffB"));
    }
}
