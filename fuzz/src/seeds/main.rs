//! Writes what the fuzz targets begin with, `fuzz/corpus/<target>/`: files of the golden fixtures, and small ones of all
//! kinds made here. To be run again when a format grows; what fuzzing added to the corpus stays.

mod archives;
mod pbs;
mod plan;
mod repository;
mod requests;
mod wal;
mod words;

use std::path::Path;

/// A target's name, what to call the file, and its bytes.
type Seed = (&'static str, String, Vec<u8>);

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = root.join("../crates");
    let mut seeds: Vec<Seed> = Vec::new();
    seeds.extend(archives::seeds(&crates)?);
    seeds.extend(repository::seeds(&crates)?);
    seeds.extend(pbs::seeds(&crates)?);
    seeds.extend(requests::seeds());
    seeds.extend(plan::seeds());
    seeds.extend(wal::seeds());
    seeds.extend(words::seeds());
    for (target, name, bytes) in &seeds {
        let folder = root.join("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)?;
    }
    println!("{} seeds", seeds.len());
    Ok(())
}

// What the compiler adds to count branches is only there with this.
use libfuzzer_sys as _;
