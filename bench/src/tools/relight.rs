//! This project, at its defaults: AES-256-GCM, zstd level 1 where it helps.

use std::process::Command;

use super::{Task, Tool};

pub fn commands(tool: &Tool, task: &Task<'_>) -> Vec<Command> {
    let command = || {
        let mut command = tool.command();
        command
            .env("RELIGHT_PASSWORD_FILE", &tool.password_file)
            .env("RELIGHT_REPOSITORY", &tool.repository);
        command
    };
    let mut first = command();
    match task {
        Task::Init => first.arg("init").arg(&tool.repository),
        Task::Backup(source, _) => match source.image {
            Some(image) => first.args(["backup", "--image"]).arg(image),
            None => first.arg("backup").arg(source.root),
        },
        // The others do not read back what they have written.
        Task::RestoreAll(_, _, to) => first.args(["restore", "latest", "--no-verify", "--to"]).arg(to),
        Task::CheckedRestore(to) => first.args(["restore", "latest", "--to"]).arg(to),
        Task::RestoreOne(file, _, to) => first.args(["restore", "latest"]).arg(file).arg("--to").arg(to),
        Task::Verify => first.arg("verify"),
        Task::Collect => first.args(["forget", "--keep-last", "1", "--apply"]),
    };
    if !matches!(task, Task::Collect) {
        return vec![first];
    }
    // A collection condemns packs and a later one deletes them. Two without grace give the space back at once, as a
    // single command of the others does.
    let mut commands = vec![first];
    for _ in 0..2 {
        let mut collect = command();
        collect.args(["collect", "--grace", "0"]);
        commands.push(collect);
    }
    commands
}
