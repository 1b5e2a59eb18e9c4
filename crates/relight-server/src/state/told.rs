//! What routes have been told of what is wrong.

use jiff::Timestamp;
use rusqlite::params;

use super::State;
use crate::error::Result;
use crate::monitor::{Told, ToldMemory};

impl State {
    /// What a route has been told.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn told(&self, route: &str) -> Result<ToldMemory> {
        self.read(|connection| {
            let select = "SELECT problem, since, told, what FROM told WHERE route = ?";
            let mut statement = connection.prepare_cached(select)?;
            let mut rows = statement.query([route])?;
            let mut memory = ToldMemory::new();
            let time = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default();
            while let Some(row) = rows.next()? {
                let what: String = row.get(3)?;
                // One that a later version wrote is as good as not told.
                let Ok(problem) = serde_json::from_str(&what) else {
                    continue;
                };
                let told = Told {
                    since: time(row.get(1)?),
                    told: row.get::<_, Option<i64>>(2)?.map(time),
                    problem,
                };
                memory.insert(row.get(0)?, told);
            }
            Ok(memory)
        })
    }

    /// A route has been told this, and nothing else is wrong any more.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn set_told(&self, route: &str, memory: &ToldMemory) -> Result<()> {
        self.change(|connection| {
            connection.execute("DELETE FROM told WHERE route = ?", [route])?;
            let insert = "INSERT INTO told (route, problem, since, told, what) VALUES (?, ?, ?, ?, ?)";
            let mut statement = connection.prepare_cached(insert)?;
            for (key, told) in memory {
                let what = serde_json::to_string(&told.problem).unwrap_or_default();
                let last = told.told.map(Timestamp::as_millisecond);
                statement.execute(params![route, key, told.since.as_millisecond(), last, what])?;
            }
            Ok(())
        })
    }
}
