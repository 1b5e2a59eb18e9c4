//! What is in the cluster, and how it changes.

use super::cluster::Server;
use crate::data::{Random, prose};
use crate::failure::{Doing, Result};

const SEED: u64 = 0x706f_7374_6772_6573;
/// Bytes that an account takes, with its share of the index.
const ACCOUNT: u64 = 156;
/// Accounts that one unit of pgbench's scale stands for.
const SCALE: u64 = 100_000;
/// Bytes that a wide row takes: five a page, and its share of the index.
const WIDE: u64 = 1660;

/// Fills a new cluster with about so many bytes: half are pgbench's tables, whose filler is not the blanks that pgbench
/// puts there but half hexadecimal digits; half are rows of prose and random bytes.
pub fn fill(server: &Server, bytes: u64) -> Result<()> {
    let scale = (bytes / 2 / ACCOUNT).div_ceil(SCALE);
    server.pgbench(&["-i", "-q", "-I", "dt", "-s", &scale.to_string()])?;
    server.sql(&format!(
        "INSERT INTO pgbench_branches SELECT n, 0, '' FROM generate_series(1, {scale}) n; \
         INSERT INTO pgbench_tellers SELECT n, (n - 1) / 10 + 1, 0, '' FROM generate_series(1, {scale} * 10) n; \
         CREATE TABLE wide (id bigint NOT NULL, created timestamptz NOT NULL, kind int NOT NULL, body text NOT NULL, \
         payload bytea NOT NULL)"
    ))?;
    let mut random = Random::new(SEED);
    server.copy("COPY pgbench_accounts FROM STDIN", |out| {
        for account in 1..=scale * SCALE {
            let branch = (account - 1) / SCALE + 1;
            let (high, low) = (random.next(), random.next());
            writeln!(
                out,
                "{account}\t{branch}\t0\t{high:016x}{low:016x} {:<51}",
                "an account as any other"
            )?;
        }
        Ok(())
    })?;
    let (mut body, mut payload) = (vec![0; 1000], vec![0; 400]);
    server.copy("COPY wide FROM STDIN", |out| {
        for id in 1..=bytes / 2 / WIDE {
            prose(&mut random, &mut body);
            random.fill(&mut payload);
            let text = String::from_utf8_lossy(&body).replace(['\n', '\\'], " ");
            write!(out, "{id}\t2026-01-01\t{}\t{text}\t\\\\x", id % 100)?;
            for byte in &payload {
                write!(out, "{byte:02x}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    })?;
    server.pgbench(&["-i", "-q", "-I", "p", "-s", &scale.to_string()])?;
    server.sql("ALTER TABLE wide ADD PRIMARY KEY (id)")?;
    Ok(())
}

/// Changes one row in a hundred of both tables: at random, or a hundredth that lies side by side. `round` says which.
pub fn change(server: &Server, at_random: bool, round: u32) -> Result<()> {
    for (table, key, change) in [
        ("pgbench_accounts", "aid", "abalance = abalance + 17"),
        ("wide", "id", "kind = kind + 1, created = now()"),
    ] {
        let rows: u64 = server
            .sql(&format!("SELECT max({key}) FROM {table}"))?
            .parse()
            .doing(|| format!("count the rows of {table}"))?;
        let part = rows / 100;
        if at_random {
            server.sql(&format!(
                "SELECT setseed(0.{round}); UPDATE {table} SET {change} WHERE {key} IN \
                 (SELECT 1 + floor(random() * {rows})::bigint FROM generate_series(1, {part}))"
            ))?;
        } else {
            let first = rows / 10 * u64::from(round);
            server.sql(&format!(
                "UPDATE {table} SET {change} WHERE {key} BETWEEN {first} AND {}",
                first + part
            ))?;
        }
    }
    Ok(())
}
