//! rustic: repository version 2 at its defaults (zstd, AES-256-CTR with Poly1305).

use std::process::Command;

use super::{Task, Tool};

pub fn commands(tool: &Tool, task: &Task<'_>) -> Vec<Command> {
    let mut command = tool.command();
    command
        .env("RUSTIC_REPOSITORY", &tool.repository)
        .env("RUSTIC_PASSWORD_FILE", &tool.password_file)
        .args(["--no-progress", "--log-level", "warn"]);
    match task {
        Task::Init => command.arg("init"),
        Task::Backup(source, _) => command.arg("backup").arg(source.root),
        // Left to Relight.
        Task::CheckedRestore(_) => return Vec::new(),
        Task::RestoreAll(source, _, to) => command
            .arg("restore")
            .arg(format!("latest:{}", source.root.display()))
            .arg(to),
        Task::RestoreOne(file, _, to) => command
            .arg("restore")
            .arg(format!("latest:{}", file.display()))
            .arg(to),
        Task::Verify => command.args(["check", "--read-data"]),
        // Without it, pruned packs would stay for 23 hours; all others here delete at once.
        Task::Collect => command.args(["forget", "--keep-last", "1", "--prune", "--instant-delete"]),
    };
    vec![command]
}
