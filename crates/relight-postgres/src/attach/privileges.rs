//! What the role may do, and whether the server's rules let it in for replication.

use super::facts::Facts;
use super::findings::{good, other};
use super::{Finding, Level};
use crate::connect::Settings;
use crate::protocol::{Connection, Mode, identifier};

/// Functions that a role needs, what for, and whether a backup is impossible without.
const FUNCTIONS: [(&str, &str, Level); 4] = [
    (
        "pg_switch_wal()",
        "`relight postgres check` proves the whole chain with it",
        Level::Advice,
    ),
    (
        "pg_create_restore_point(text)",
        "`relight postgres check` marks the log with it",
        Level::Advice,
    ),
    (
        "pg_read_file(text)",
        "configuration outside the data directory is saved with it",
        Level::Advice,
    ),
    (
        "pg_read_binary_file(text,bigint,bigint,boolean)",
        "pages whose checksums are wrong are read again with it",
        Level::Advice,
    ),
];
/// Roles whose rights are needed.
const ROLES: [(&str, &str); 3] = [
    ("pg_read_all_settings", "to see all settings"),
    (
        "pg_monitor",
        "to see how archiving, replication and disk usage stand",
    ),
    (
        "pg_read_server_files",
        "to save configuration outside the data directory",
    ),
];

pub(super) fn look(connection: &mut Connection, facts: &Facts, server: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let role = connection.rows(
        "SELECT rolname AS name, rolsuper AS super, rolreplication AS replication FROM pg_catalog.pg_roles \
         WHERE rolname = current_user",
    );
    let (name, superuser, replication) = match &role {
        Ok(set) => set.first().map_or((String::new(), false, false), |row| {
            (
                row.text("name").to_string(),
                row.is_true("super"),
                row.is_true("replication"),
            )
        }),
        Err(_) => (String::new(), false, false),
    };
    let quoted = identifier(&name);
    findings.push(if superuser || replication {
        good("role", format!("{name} may replicate"))
    } else {
        other(
            Level::Problem,
            "role",
            format!("{name} may not replicate"),
            format!("ALTER ROLE {quoted} REPLICATION"),
        )
    });
    if superuser {
        findings.push(other(
            Level::Advice,
            "privileges",
            format!("{name} is a superuser, which is more than is needed"),
            "make a role of its own: CREATE ROLE relight LOGIN REPLICATION; GRANT pg_monitor, pg_read_server_files TO \
             relight",
        ));
    } else {
        findings.extend(granted(connection, &quoted));
    }
    if superuser || replication {
        findings.push(replicates(server, facts));
    }
    findings
}

fn granted(connection: &mut Connection, role: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (wanted, what_for) in ROLES {
        let has = connection.value(&format!("SELECT pg_catalog.pg_has_role('{wanted}', 'USAGE')"));
        if has.is_ok_and(|has| has != "t") {
            findings.push(other(
                Level::Advice,
                "privileges",
                format!("it is not a member of {wanted}, which it needs {what_for}"),
                format!("GRANT {wanted} TO {role}"),
            ));
        }
    }
    for (function, what_for, level) in FUNCTIONS {
        let sql = format!("SELECT pg_catalog.has_function_privilege('pg_catalog.{function}', 'EXECUTE')");
        if connection.value(&sql).is_ok_and(|has| has != "t") {
            findings.push(other(
                level,
                "privileges",
                format!("it may not call {function}: {what_for}"),
                format!("GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {role}"),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(good("privileges", "all that are needed"));
    }
    findings
}

/// Whether a connection for replication comes about, and reaches the same cluster.
fn replicates(server: &Settings, facts: &Facts) -> Finding {
    let subject = "replication connection";
    let identified = Connection::open(server, Mode::Replication)
        .and_then(|mut connection| connection.rows("IDENTIFY_SYSTEM"));
    match identified {
        Ok(set) if set.first().and_then(|row| row.get("systemid")) == Some(facts.system.as_str()) => {
            good(subject, "comes about")
        }
        Ok(_) => other(
            Level::Problem,
            subject,
            "it reaches another cluster",
            "give a host that always leads to the same one",
        ),
        Err(error) => other(
            Level::Problem,
            subject,
            error.to_string(),
            format!(
                "add a line to pg_hba.conf, such as: host replication {} ADDRESS scram-sha-256; then SELECT pg_reload_conf()",
                server.user
            ),
        ),
    }
}
