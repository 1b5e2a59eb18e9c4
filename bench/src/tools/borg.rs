//! Borg 1: `repokey` (AES-256-CTR with HMAC-SHA-256), `zstd,1`.

use std::process::Command;

use super::{PASSPHRASE, Task, Tool};

pub fn commands(tool: &Tool, task: &Task<'_>) -> Vec<Command> {
    let command = || {
        let mut command = tool.command();
        command
            .env("BORG_REPO", &tool.repository)
            .env("BORG_PASSPHRASE", PASSPHRASE)
            .env("BORG_BASE_DIR", &tool.home);
        command
    };
    let mut first = command();
    match task {
        Task::Init => first.args(["init", "--encryption", "repokey"]),
        Task::Backup(source, number) => first
            .args(["create", "--compression", "zstd,1"])
            .arg(format!("::backup-{number}"))
            .arg(source.root),
        // Left to Relight.
        Task::CheckedRestore(_) => return Vec::new(),
        Task::RestoreAll(_, number, to) => first
            .arg("extract")
            .arg(format!("::backup-{number}"))
            .current_dir(to),
        Task::RestoreOne(file, number, to) => {
            let stored = file.strip_prefix("/").unwrap_or(file);
            first
                .arg("extract")
                .arg(format!("::backup-{number}"))
                .arg(stored)
                .current_dir(to)
        }
        Task::Verify => first.args(["check", "--verify-data"]),
        Task::Collect => first.args(["prune", "--keep-last", "1"]),
    };
    if !matches!(task, Task::Collect) {
        return vec![first];
    }
    let mut compact = command();
    compact.arg("compact");
    vec![first, compact]
}
