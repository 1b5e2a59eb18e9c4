//! `relight ls`: lists what is in a snapshot.

mod server;

use std::ffi::OsString;
use std::sync::atomic::Ordering;

use clap::Args;
use relight_pxar::EntryKind;
use relight_repo::RepoError;
use relight_workloads::files::browse::{Place, View, join};
use serde::Serialize;

use crate::client_key::ClientKeyOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::rows::Rows;
use crate::server_access::ServerOptions;
use crate::shown::{Shown, bytes};
use crate::{cancel, target};

/// Options of `ls`.
#[derive(Debug, Args)]
pub struct Options {
    /// Short id, `latest`, or WORKLOAD@TIME
    snapshot: String,
    /// A folder or file in it, as this command shows it or as it was where it was saved [default: its root]
    path: Option<OsString>,
    /// Show kind, permissions, owner, size and modification time
    #[arg(short)]
    long: bool,
    /// Also list what is in folders
    #[arg(short = 'R')]
    recursive: bool,
    #[command(flatten)]
    client_key: ClientKeyOptions,
    #[command(flatten)]
    server: ServerOptions,
}

impl Options {
    fn line(&self, shown: &Shown) -> String {
        if self.long {
            shown.long_line()
        } else {
            shown.path.printable()
        }
    }
}

#[derive(Serialize)]
struct Head {
    snapshot: String,
}

#[derive(Serialize)]
struct Nothing {}

/// Lists it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    if let Some(address) = &options.server.server {
        return server::run(global, options, address);
    }
    let repository = global.open_to_read()?;
    let snapshot = target::snapshot(&repository, &options.snapshot)?;
    let head = Head {
        snapshot: snapshot.id.to_string(),
    };
    let view = View::new(options.client_key.reader(repository, [&snapshot])?, snapshot);
    let place = match &options.path {
        Some(path) => view.at(bytes(path))?,
        None => Place::Root,
    };
    let cancelled = cancel::flag();
    let mut rows = Rows::begin(global, &head, "entries");
    each(&view, &place, options.recursive, &mut |shown| {
        if cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        rows.row(&shown, |shown: &Shown| options.line(shown));
        Ok(!rows.is_closed())
    })?;
    rows.end(&Nothing {}, |_| String::new());
    Ok(Exit::Done)
}

/// Hands over what is listed for a place, until `take` says false.
fn each(
    view: &View,
    place: &Place<'_>,
    recursive: bool,
    take: &mut dyn FnMut(Shown) -> Result<bool>,
) -> Result<()> {
    match place {
        Place::Root => {
            for tree in view.trees() {
                let (node, path) = (tree.root()?, Vec::new());
                if !take(Shown::entry(tree, &node, tree.name.clone().into_bytes())?)? {
                    return Ok(());
                }
                if recursive {
                    each(view, &Place::Entry { tree, node, path }, true, take)?;
                }
            }
            for archive in view.archives() {
                if !take(Shown::archive(archive))? {
                    return Ok(());
                }
            }
        }
        Place::Archive(archive) => {
            take(Shown::archive(archive))?;
        }
        Place::Entry { tree, node, path } => {
            let at = join(tree.name.as_bytes(), path);
            if !matches!(node.kind(), EntryKind::Directory) {
                take(Shown::entry(tree, node, at)?)?;
            } else if recursive {
                for item in tree.walk(node)? {
                    let (below, node) = item?;
                    if !take(Shown::entry(tree, &node, join(&at, &below))?)? {
                        return Ok(());
                    }
                }
            } else {
                for node in tree.children(node)? {
                    let node = node?;
                    if !take(Shown::entry(tree, &node, join(&at, node.name()))?)? {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}
