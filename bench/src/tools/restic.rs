//! restic: repository version 2, compression `auto` (zstd), AES-256-CTR with Poly1305.

use std::process::Command;

use super::{Task, Tool};

pub fn commands(tool: &Tool, task: &Task<'_>) -> Vec<Command> {
    let mut command = tool.command();
    command
        .env("RESTIC_REPOSITORY", &tool.repository)
        .env("RESTIC_PASSWORD_FILE", &tool.password_file)
        .args(["--compression", "auto", "--quiet"]);
    match task {
        Task::Init => command.args(["init", "--repository-version", "2"]),
        Task::Backup(source, _) => command.arg("backup").arg(source.root),
        // Left to Relight.
        Task::CheckedRestore(_) => return Vec::new(),
        Task::RestoreAll(_, _, to) => command.args(["restore", "latest", "--target"]).arg(to),
        Task::RestoreOne(file, _, to) => command
            .args(["restore", "latest", "--target"])
            .arg(to)
            .arg("--include")
            .arg(file),
        Task::Verify => command.args(["check", "--read-data"]),
        Task::Collect => command.args(["forget", "--keep-last", "1", "--prune"]),
    };
    vec![command]
}
