//! `relight ls --server`: lists what is in a snapshot of a server.

use std::sync::atomic::Ordering;

use relight_pbs::client::{ReaderSession, RemoteArchive, ServerAddress};
use relight_pxar::{Accessor, Children, EntryKind, Node};
use relight_repo::RepoError;
use relight_workloads::WorkloadError;
use relight_workloads::files::browse::{Kind, join};

use super::{Head, Nothing, Options};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::remote::{self, Item};
use crate::rows::Rows;
use crate::shown::{Shown, bytes};
use crate::{cancel, server_access};

type Take<'a> = dyn FnMut(Shown) -> Result<bool> + 'a;

/// Lists it.
pub fn run(global: &Global, options: &Options, address: &ServerAddress) -> Result<Exit> {
    let runtime = server_access::runtime()?;
    let (client, name) = options.server.snapshot(&runtime, address, &options.snapshot)?;
    let session = runtime.block_on(client.reader(name.clone(), options.client_key.key()?))?;
    let items = remote::items(session.manifest());
    let place = match &options.path {
        Some(path) if bytes(path).iter().any(|byte| *byte != b'/') => {
            Some(remote::find(session.manifest(), &items, bytes(path))?)
        }
        _ => None,
    };
    let open = |name: &str| -> Result<Accessor<RemoteArchive>> {
        let tree = runtime.block_on(session.tree(name))?;
        Accessor::open(tree.metadata().clone()).map_err(damaged)
    };
    let head = Head {
        snapshot: name.to_string(),
    };
    let cancelled = cancel::flag();
    let mut rows = Rows::begin(global, &head, "entries");
    let mut take = |shown: Shown| {
        if cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        rows.row(&shown, |shown: &Shown| options.line(shown));
        Ok(!rows.is_closed())
    };
    match &place {
        None => {
            for item in &items {
                let Item::Tree(name) = item else {
                    take(whole(&session, item))?;
                    continue;
                };
                let accessor = open(name)?;
                let root = accessor.root().map_err(damaged)?;
                let path = name.clone().into_bytes();
                if !take(entry(&accessor, &root, path.clone())?)? {
                    break;
                }
                if options.recursive {
                    below(&accessor, &root, &path, true, &mut take)?;
                }
            }
        }
        Some((Item::Tree(name), path)) => {
            let accessor = open(name)?;
            let at = join(name.as_bytes(), path);
            let node = accessor.lookup_path(path).map_err(damaged)?.ok_or_else(|| {
                let path = String::from_utf8_lossy(&at).into_owned();
                Failure::Usage(format!("the snapshot has no {path}"))
            })?;
            if matches!(node.kind(), EntryKind::Directory) {
                below(&accessor, &node, &at, options.recursive, &mut take)?;
            } else {
                take(entry(&accessor, &node, at)?)?;
            }
        }
        Some((item, _)) => {
            take(whole(&session, item))?;
        }
    }
    rows.end(&Nothing {}, |_| String::new());
    Ok(Exit::Done)
}

fn damaged(error: relight_pxar::DecodeError) -> Failure {
    WorkloadError::Archive(error).into()
}

fn whole(session: &ReaderSession, item: &Item) -> Shown {
    let kind = match item {
        Item::Image(_) => Kind::Image,
        _ => Kind::Stream,
    };
    Shown::whole(item.name(), kind, remote::size(session, &[item.name()]))
}

fn entry(accessor: &Accessor<RemoteArchive>, node: &Node, path: Vec<u8>) -> Result<Shown> {
    let found = accessor.resolve_hardlink(node).map_err(damaged)?;
    Shown::of(node, &found, path)
}

/// What is in a folder, and with `recursive` what is below that; until `take` says false.
fn below(
    accessor: &Accessor<RemoteArchive>,
    folder: &Node,
    path: &[u8],
    recursive: bool,
    take: &mut Take<'_>,
) -> Result<()> {
    let children = |node: &Node| {
        let directory = accessor.directory(node).map_err(damaged)?;
        accessor.children(&directory).map_err(damaged)
    };
    let mut open: Vec<(Vec<u8>, Children<'_, RemoteArchive>)> = vec![(path.to_vec(), children(folder)?)];
    while let Some((path, list)) = open.last_mut() {
        let Some(node) = list.next() else {
            open.pop();
            continue;
        };
        let node = node.map_err(damaged)?;
        let at = join(path, node.name());
        if !take(entry(accessor, &node, at.clone())?)? {
            return Ok(());
        }
        if recursive && matches!(node.kind(), EntryKind::Directory) {
            open.push((at, children(&node)?));
        }
    }
    Ok(())
}
