//! The command line of Relight: one program for every task.

mod api;
mod approved;
mod cancel;
mod client_key;
mod commands;
mod context;
mod credentials;
mod exit;
mod failure;
mod noted;
mod other;
mod output;
mod progress;
mod remote;
mod rows;
mod s3;
mod server_access;
mod server_state;
mod shown;
mod steps;
mod target;
mod thaw;

use clap::Parser;

use commands::Command;
use context::Global;

/// One backup and recovery server that proves its backups come back.
#[derive(Debug, Parser)]
#[command(name = "relight", version, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(match (cli.global.quiet, &cli.command) {
            (true, _) => tracing::Level::ERROR,
            // Its log is the only place where it says what it does.
            (false, Command::Serve(_)) => tracing::Level::INFO,
            (false, _) => tracing::Level::WARN,
        })
        .with_target(false)
        .without_time()
        .init();
    cancel::install();
    let result = cli.command.run(&cli.global);
    noted::after(&cli.global, &cli.command, &result);
    let exit = match result {
        Ok(exit) => exit,
        Err(failure) => {
            output::failure(&cli.global, &failure);
            failure.exit()
        }
    };
    exit.into()
}

/// Says what is wrong with the arguments.
fn refuse(error: &clap::Error) -> std::process::ExitCode {
    let _ = error.print();
    // A restore command with a wrong option must not look as if the log ended.
    let restores = std::env::args_os().any(|argument| argument == commands::wal::FETCH);
    if restores && error.use_stderr() {
        return exit::Exit::Abort.into();
    }
    std::process::ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
