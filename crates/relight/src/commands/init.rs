//! `relight init`: makes a repository.

use clap::Args;
use relight_repo::keyring;
use relight_repo::settings::Settings;
use relight_repo::storage::Remark;
use serde::Serialize;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

/// Options of `init`.
#[derive(Debug, Args)]
pub struct Options {
    /// Where: a directory or s3://BUCKET/PREFIX [default: --repo]
    #[arg(value_name = "REPO")]
    location: Option<String>,
    /// Keep Reed-Solomon parity beside each pack, in percent of its size, so that damage can be repaired in place
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    parity: u8,
    /// Storage class of data packs, by the storage's own name; everything else stays in the default class
    #[arg(long, value_name = "CLASS")]
    data_class: Option<String>,
    /// Lock objects in storage for as long as snapshots promise to be kept (buckets with object lock)
    #[arg(long)]
    object_lock: bool,
}

#[derive(Serialize)]
struct Made {
    repository: String,
    id: String,
    storage: Abilities,
    remarks: Vec<Remark>,
}

/// What the storage can do.
#[derive(Serialize)]
struct Abilities {
    /// It decides itself which of several writers is first; otherwise they agree by claims.
    conditional_writes: bool,
    /// Objects can be locked.
    object_lock: bool,
}

/// Makes it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let location = match &options.location {
        Some(location) => location.as_str(),
        None => global.location()?,
    };
    if let (Some(one), Some(other)) = (&options.location, &global.repository)
        && one != other
        && std::env::var("RELIGHT_REPOSITORY").as_ref() != Ok(other)
    {
        return Err(Failure::Usage(
            "the repository is named twice; leave one of the two out".into(),
        ));
    }
    let storage = global.storage_at(location, true)?;
    if keyring::is_repository(&*storage)? {
        return Err(relight_repo::RepoError::AlreadyARepository {
            location: storage.location(),
        }
        .into());
    }
    // Before anything is written: what is missing shows now and not when the first backup fails.
    let can = storage.capabilities();
    if options.object_lock && !can.retention {
        return Err(Failure::Usage(format!(
            "{} has no object lock: use a bucket that was made with it, or leave --object-lock out; nothing was changed",
            storage.location()
        )));
    }
    let remarks = storage.remarks()?;
    let provider = global.keys.new_provider()?;
    let settings = Settings {
        data_class: options.data_class.clone(),
        parity_percent: options.parity,
        object_lock: options.object_lock,
    };
    let now = jiff::Timestamp::now();
    let (descriptor, _) = keyring::initialise(&*storage, &*provider, "first key", now, settings)?;
    let made = Made {
        repository: storage.location(),
        id: descriptor.id,
        storage: Abilities {
            conditional_writes: can.conditional_put,
            object_lock: can.retention,
        },
        remarks,
    };
    output::result(global, &made, |made, out| {
        out.push_str(&format!("Made repository {} in {}.\n", made.id, made.repository));
        out.push_str("Without a key nothing in it can ever be read: print a recovery key with\n");
        out.push_str(&format!("  relight key recovery --repo '{location}'\n"));
        about_storage(made, location, out);
    });
    Ok(Exit::Done)
}

/// What of the storage is worth a word.
fn about_storage(made: &Made, location: &str, out: &mut String) {
    if location.starts_with("s3://") {
        let Abilities {
            conditional_writes,
            object_lock,
        } = made.storage;
        let writers = if conditional_writes {
            "decides which of several writers is first"
        } else {
            "ignores conditions, so that writers agree by claims"
        };
        let locks = if object_lock {
            "can lock objects"
        } else {
            "has no object lock"
        };
        out.push_str(&format!("The bucket {writers}, and {locks}.\n"));
    }
    for remark in &made.remarks {
        let word = if remark.danger { "DANGER" } else { "remark" };
        out.push_str(&format!("{word}: {}\n", remark.text));
    }
}
