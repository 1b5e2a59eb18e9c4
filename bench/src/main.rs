//! Measures Relight beside its peers on the same data in the same run.
//!
//! The process that measures stays small and does none of the heavy work itself: generating data and comparing
//! restored trees run as child processes of the same program. A child that is started from a large process would
//! be charged that process's memory in its peak, because Linux keeps the peak over `execve`.

mod aims;
mod cli;
mod data;
mod failure;
mod machine;
mod measure;
mod postgres;
mod record;
mod report;
mod same;
mod scale;
mod schedule;
mod server;
mod tools;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("relight-bench: {failure}");
            ExitCode::from(2)
        }
    }
}
