//! `relight api`: any call of a server's API.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;
use http::Method;
use serde_json::Value;

use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

/// Options of `api`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    server: ApiOptions,
    /// GET, POST, PUT or DELETE
    #[arg(value_name = "METHOD", value_parser = method)]
    method: Method,
    /// What comes behind /api/v1, such as '/runs?running=true'; docs/api.md and /openapi.json tell what there is
    #[arg(value_name = "PATH")]
    path: String,
    /// What is sent: JSON, a file with it as @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// The file to write the answer to, or a folder [default: standard output]
    #[arg(long, short = 'o', value_name = "FILE|DIR")]
    output: Option<PathBuf>,
}

/// So many bytes are sent at most.
const MOST: u64 = 64 << 20;

fn method(text: &str) -> Result<Method, String> {
    let known = [Method::GET, Method::POST, Method::PUT, Method::DELETE];
    let found = known
        .into_iter()
        .find(|method| method.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "there are: GET, POST, PUT, DELETE".into())
}

fn body(given: &str) -> Result<Value> {
    let mut text = String::new();
    let read = match (given, given.strip_prefix('@')) {
        ("-", _) => std::io::stdin().take(MOST).read_to_string(&mut text),
        (_, Some(path)) => {
            std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text))
        }
        _ => {
            text.push_str(given);
            Ok(0)
        }
    };
    read.map_err(Failure::io(format!("read {}", given.trim_start_matches('@'))))?;
    // What is sent is not shown: there may be a password in it.
    serde_json::from_str(&text).map_err(|error| {
        Failure::Usage(format!(
            "what is to be sent is no JSON (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

/// Makes the call.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let api = options.server.required()?;
    let path = options.path.strip_prefix("/api/v1").unwrap_or(&options.path);
    let path = format!("/{}", path.trim_start_matches('/'));
    let body = options.data.as_deref().map(body).transpose()?;
    let mut answer = api.call(options.method.clone(), &path, &[], body.as_ref())?;
    if let Some(to) = &options.output {
        let path = api.save(answer, to)?;
        output::remark(global, &format!("wrote {}", path.display()));
        return Ok(Exit::Done);
    }
    let kind = answer.content_type().to_owned();
    if kind == "application/json" && answer.file_name().is_none() {
        let whole = api.whole(answer)?;
        output::result(global, &whole, |whole, out| {
            out.push_str(&serde_json::to_string_pretty(whole).unwrap_or_default());
            out.push('\n');
        });
        return Ok(Exit::Done);
    }
    let mut out = std::io::stdout().lock();
    if out.is_terminal() && kind != "application/json" {
        return Err(Failure::Usage(format!(
            "the answer is a file ({kind}), which would garble the terminal: name a file with -o"
        )));
    }
    api.copy(&mut answer, &mut out)?;
    Ok(Exit::Done)
}
