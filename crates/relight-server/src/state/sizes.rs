//! How large repositories were, a measurement a day.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::params;

use super::State;
use crate::error::Result;
use crate::monitor::Size;

const DAY: i64 = 86_400_000;

impl State {
    /// Keeps how large a repository is; of one day, what was measured last.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn add_repository_size(&self, name: &str, size: Size) -> Result<()> {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let time = size.time.as_millisecond();
        self.change(|connection| {
            connection.execute(
                "INSERT INTO repository_sizes (repository, day, time, used, available) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (repository, day) DO UPDATE
                 SET time = excluded.time, used = excluded.used, available = excluded.available",
                params![
                    name,
                    time.div_euclid(DAY),
                    time,
                    number(size.used),
                    number(size.available)
                ],
            )?;
            Ok(())
        })
    }

    /// How large repositories were since then, by name, in the order of time.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn repository_sizes(&self, since: Timestamp) -> Result<BTreeMap<String, Vec<Size>>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT repository, time, used, available FROM repository_sizes WHERE time >= ? ORDER BY time",
            )?;
            let mut rows = statement.query([since.as_millisecond()])?;
            let mut sizes: BTreeMap<String, Vec<Size>> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let bytes = |column| row.get::<_, i64>(column).map(|bytes| u64::try_from(bytes).unwrap_or(0));
                let size = Size {
                    time: Timestamp::from_millisecond(row.get(1)?).unwrap_or_default(),
                    used: bytes(2)?,
                    available: bytes(3)?,
                };
                sizes.entry(row.get(0)?).or_default().push(size);
            }
            Ok(sizes)
        })
    }
}
