//! The tables.

use std::path::Path;

use rusqlite::Connection;

use crate::error::{Result, ServerError};

/// Version of the tables (`PRAGMA user_version`). A step per version; each is run once, in order.
const STEPS: &[&str] = &[
    // 1
    "CREATE TABLE users (
        id TEXT PRIMARY KEY NOT NULL,
        enabled INTEGER NOT NULL,
        expires INTEGER,
        comment TEXT,
        -- Argon2id: salt, memory in KiB, passes, lanes, result. Null: no password, tokens only.
        password TEXT,
        -- Goes up when the password changes; tickets are signed with it, and end with it.
        epoch INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE tokens (
        user TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        enabled INTEGER NOT NULL,
        expires INTEGER,
        comment TEXT,
        -- SHA-256 of the secret, which has 122 random bits.
        secret BLOB NOT NULL,
        PRIMARY KEY (user, name)
    ) STRICT;
    CREATE TABLE rules (
        path TEXT NOT NULL,
        who TEXT NOT NULL,
        role TEXT NOT NULL,
        propagate INTEGER NOT NULL,
        PRIMARY KEY (path, who, role)
    ) STRICT;
    CREATE TABLE secrets (
        name TEXT PRIMARY KEY NOT NULL,
        value BLOB NOT NULL
    ) STRICT;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        -- Milliseconds since 1970.
        time INTEGER NOT NULL,
        who TEXT,
        peer TEXT,
        what TEXT NOT NULL,
        parameters TEXT NOT NULL,
        status INTEGER NOT NULL,
        message TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_time ON audit (time);
    CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'records are never changed'); END;
    CREATE TRIGGER audit_is_never_removed BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'records are never removed'); END;",
    // 2
    "CREATE TABLE remotes (
        name TEXT PRIMARY KEY NOT NULL,
        -- JSON: host, port, who asks, fingerprint, comment.
        config TEXT NOT NULL,
        -- The password or the secret of the token, as it is to be shown to the other server.
        secret TEXT NOT NULL
    ) STRICT;
    CREATE TABLE sync_jobs (
        id TEXT PRIMARY KEY NOT NULL,
        -- JSON, as clients see it.
        config TEXT NOT NULL,
        -- When its schedule began to count: when it was made, or changed, or run last. Seconds since 1970.
        since INTEGER NOT NULL,
        -- Who wants it to run now, if anybody on this host does.
        requested TEXT,
        last_upid TEXT,
        last_state TEXT,
        last_end INTEGER
    ) STRICT;",
    // 3: one log for everything that is evidence, in which each record vouches for those before it. Records of version 1
    // stay where they are and are shown with the others.
    "CREATE TABLE evidence (
        -- 1, 2, 3 ...
        sequence INTEGER PRIMARY KEY NOT NULL,
        -- Of the body, to look for: milliseconds since 1970, kind, who.
        time INTEGER NOT NULL,
        kind TEXT NOT NULL,
        who TEXT,
        body TEXT NOT NULL,
        previous BLOB NOT NULL,
        hash BLOB NOT NULL,
        signature BLOB NOT NULL
    ) STRICT;
    CREATE INDEX evidence_time ON evidence (time);
    CREATE TRIGGER evidence_is_never_changed BEFORE UPDATE ON evidence
        BEGIN SELECT RAISE(ABORT, 'evidence is never changed'); END;
    CREATE TRIGGER evidence_is_never_removed BEFORE DELETE ON evidence
        BEGIN SELECT RAISE(ABORT, 'evidence is never removed'); END;",
    // 4: runs. Times are milliseconds since 1970.
    "CREATE TABLE runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        job TEXT NOT NULL,
        workload TEXT,
        repository TEXT,
        due INTEGER NOT NULL,
        started INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        -- Null: the scheduler.
        who TEXT,
        -- From here on null while it runs.
        ended INTEGER,
        outcome TEXT,
        code TEXT,
        message TEXT,
        snapshot TEXT,
        -- JSON.
        figures TEXT
    ) STRICT;
    CREATE INDEX runs_job ON runs (job);
    CREATE INDEX runs_workload ON runs (workload) WHERE workload IS NOT NULL;
    CREATE INDEX runs_running ON runs (number) WHERE outcome IS NULL;
    CREATE TABLE run_events (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        time INTEGER NOT NULL,
        text TEXT NOT NULL
    ) STRICT;
    CREATE INDEX run_events_run ON run_events (run);
    CREATE TABLE run_requests (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        what TEXT NOT NULL,
        job TEXT,
        run INTEGER,
        who TEXT NOT NULL,
        time INTEGER NOT NULL,
        taken INTEGER NOT NULL
    ) STRICT;
    -- What the scheduler remembers, as JSON.
    CREATE TABLE schedule_head (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        head TEXT NOT NULL
    ) STRICT;
    CREATE TABLE schedule_jobs (
        job TEXT PRIMARY KEY NOT NULL,
        row TEXT NOT NULL
    ) STRICT;
    -- Up to when the snapshots of a repository are known, by their publication.
    CREATE TABLE arrivals (
        repository TEXT PRIMARY KEY NOT NULL,
        until INTEGER NOT NULL
    ) STRICT;",
    // 5: of millions of records, the few of drills and keys are looked for again and again.
    "CREATE INDEX evidence_drills ON evidence (sequence) WHERE kind = 'drill';
    CREATE INDEX evidence_keys ON evidence (sequence) WHERE kind = 'key';",
    // 6: how large repositories were: of each day the last measurement.
    "CREATE TABLE repository_sizes (
        repository TEXT NOT NULL,
        -- Days since 1970.
        day INTEGER NOT NULL,
        time INTEGER NOT NULL,
        used INTEGER NOT NULL,
        available INTEGER NOT NULL,
        PRIMARY KEY (repository, day)
    ) STRICT, WITHOUT ROWID;",
    // 7: who was told of what is wrong.
    "CREATE TABLE told (
        route TEXT NOT NULL,
        problem TEXT NOT NULL,
        -- Since when it is so; when it was last told, if it was.
        since INTEGER NOT NULL,
        told INTEGER,
        -- What was told, as JSON.
        what TEXT NOT NULL,
        PRIMARY KEY (route, problem)
    ) STRICT, WITHOUT ROWID;",
    // 8: what needs a second person. Times are milliseconds since 1970.
    "CREATE TABLE approvals (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        action TEXT NOT NULL,
        path TEXT NOT NULL,
        subject TEXT NOT NULL,
        -- SHA-256 of the exact thing.
        digest BLOB NOT NULL,
        reason TEXT NOT NULL,
        asked_by TEXT NOT NULL,
        asked INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        -- Null: nobody has decided.
        approved INTEGER,
        decided_by TEXT,
        decided INTEGER,
        remark TEXT NOT NULL,
        used INTEGER
    ) STRICT;
    CREATE INDEX approvals_digest ON approvals (digest);
    -- Times in which a second person is not asked for.
    CREATE TABLE broken_glass (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        who TEXT NOT NULL,
        reason TEXT NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER NOT NULL
    ) STRICT;",
    // 9: second factors.
    "CREATE TABLE totp (
        user TEXT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        secret BLOB NOT NULL,
        -- When a first code confirmed it, in seconds since 1970. Null: not yet, and it counts for nothing.
        since INTEGER,
        -- The step of the last code that was used.
        used INTEGER NOT NULL,
        -- Wrong codes in a row, and when the last of them came.
        wrong INTEGER NOT NULL,
        last_wrong INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE recovery_codes (
        user TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        -- SHA-256 of the code, which has 80 random bits.
        hash BLOB NOT NULL,
        PRIMARY KEY (user, hash)
    ) STRICT, WITHOUT ROWID;",
    // 10: roles of the server's own; groups that directories told of.
    "CREATE TABLE roles (
        name TEXT PRIMARY KEY NOT NULL,
        -- Verbs, with commas between them.
        may TEXT NOT NULL
    ) STRICT;
    CREATE TABLE user_groups (
        user TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        PRIMARY KEY (user, name)
    ) STRICT, WITHOUT ROWID;
    -- Times in seconds since 1970.
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY NOT NULL,
        root TEXT NOT NULL,
        user TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        since INTEGER NOT NULL,
        until INTEGER NOT NULL,
        address TEXT,
        program TEXT,
        ended INTEGER
    ) STRICT;
    CREATE INDEX sessions_root ON sessions (root);
    CREATE INDEX sessions_user ON sessions (user);
    -- The plan whose retention and promises nobody has to approve any more.
    CREATE TABLE agreed_plan (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        text TEXT NOT NULL
    ) STRICT;",
    // 11: users that are kept elsewhere.
    "CREATE TABLE directory_users (
        user TEXT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        -- What stays the same when the name is given to somebody else.
        subject TEXT NOT NULL,
        -- When the directory was asked last, and since when it lets the user in no more; seconds since 1970.
        checked INTEGER NOT NULL,
        gone INTEGER
    ) STRICT;",
    // 12: the drills of one workload. (The expression is that of `state::evidence::DRILLED`.)
    "CREATE INDEX evidence_drilled ON evidence
        (CASE WHEN json_valid(body) THEN json_extract(body, '$.detail.workload') END, sequence) WHERE kind = 'drill';",
    // 13: what somebody asked for, word for word (JSON), so that it can be asked for again.
    "ALTER TABLE runs ADD COLUMN asked TEXT;",
    // 14: recovery points that are gone though they were the newest of their workloads.
    "CREATE TABLE gone_points (
        snapshot TEXT PRIMARY KEY NOT NULL,
        workload TEXT NOT NULL,
        repository TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;",
];

/// Brings the tables of a database to this version.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    let failed = |source| ServerError::State {
        path: path.to_path_buf(),
        source,
    };
    // Readers and one writer side by side, from several processes; what was committed survives a power cut.
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(failed)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(failed)?;
    connection
        .pragma_update(None, "foreign_keys", true)
        .map_err(failed)?;
    let version = |connection: &Connection| -> rusqlite::Result<i64> {
        connection.query_row("PRAGMA user_version", [], |row| row.get(0))
    };
    let current = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let found = version(connection).map_err(failed)?;
    if found > current {
        return Err(ServerError::Newer {
            path: path.to_path_buf(),
            found,
        });
    }
    if found == current {
        return Ok(());
    }
    let behaviour = rusqlite::TransactionBehavior::Immediate;
    let transaction = connection.transaction_with_behavior(behaviour).map_err(failed)?;
    // Another process may have done it meanwhile.
    let found = usize::try_from(version(&transaction).map_err(failed)?).unwrap_or(0);
    for step in STEPS.iter().skip(found) {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction
        .pragma_update(None, "user_version", current)
        .map_err(failed)?;
    transaction.commit().map_err(failed)
}
