//! PostgreSQL clusters: base backups, the continuous log, recovery windows, restores and drills.
