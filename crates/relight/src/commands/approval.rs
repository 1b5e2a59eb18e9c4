//! `relight approval`: what one may not do alone, on the server's host. Who decides does so as itself, with its password: being
//! root is not enough. Root can break the glass instead, for a time, and everybody is told.

mod over_api;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use relight_model::TimeSpan;
use relight_pbs::access::UserId;
use relight_server::approvals::{Glass, Request, Standing, check_words};
use relight_server::gate::Gate;
use relight_server::state::{ApprovalFilter, State};
use serde::Serialize;

use crate::api::ApiOptions;
use crate::context::Global;
use crate::credentials;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;
use crate::server_state::{ConfigOptions, operator};
use crate::shown;

/// What to do with requests for approval.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the requests, and what needs a second person here
    List(ListOptions),
    /// Approve what somebody else asks for
    Approve(DecideOptions),
    /// Deny what somebody else asks for
    Deny(DecideOptions),
    /// Ask for no second person for a time: in need, and everybody is told
    BreakGlass(GlassOptions),
    /// Ask for a second person again
    MendGlass(MendOptions),
}

/// Options of `approval list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Only those that wait for a decision
    #[arg(long)]
    waiting: bool,
    /// So many at most, the newest ones
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    limit: u32,
}

/// Options of `approval approve` and `approval deny`.
#[derive(Debug, Args)]
pub struct DecideOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// The request
    #[arg(value_name = "NUMBER")]
    number: u64,
    /// Who decides: a user, who is asked for its password. Of another host's server it is the one in its address
    #[arg(long = "as", value_name = "USER", required_unless_present = "server")]
    user: Option<UserId>,
    /// File whose first line is that password
    #[arg(long, value_name = "FILE")]
    user_password_file: Option<PathBuf>,
    /// What is said about it
    #[arg(long, value_name = "TEXT", default_value = "")]
    remark: String,
}

/// Options of `approval break-glass`.
#[derive(Debug, Args)]
pub struct GlassOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// For how long; break-glass in [approvals] says how long at most
    #[arg(long = "for", value_name = "TIME", default_value = "1h")]
    length: TimeSpan,
}

/// Options of `approval mend-glass`.
#[derive(Debug, Args)]
pub struct MendOptions {
    #[command(flatten)]
    config: ConfigOptions,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    number: u64,
    standing: String,
    action: String,
    subject: String,
    who: String,
    asked: Timestamp,
    expires: Timestamp,
    reason: String,
    decided_by: Option<String>,
    remark: Option<String>,
}

impl Row {
    fn new(request: &Request, now: Timestamp) -> Self {
        let decision = request.decision.as_ref();
        Self {
            number: request.number,
            standing: request.standing(now).name().to_owned(),
            action: request.action.to_string(),
            subject: request.subject.clone(),
            who: request.who.to_string(),
            asked: request.asked,
            expires: request.expires,
            reason: request.reason.clone(),
            decided_by: decision.map(|decision| decision.by.to_string()),
            remark: decision.map(|decision| decision.remark.clone()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct List {
    required: Vec<String>,
    broken_glass: Option<String>,
    requests: Vec<Row>,
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List(options) => list(global, options),
        Command::Approve(options) => decide(global, options, true),
        Command::Deny(options) => decide(global, options, false),
        Command::BreakGlass(options) => break_glass(global, options),
        Command::MendGlass(options) => mend_glass(global, options),
    }
}

fn told(glass: &Glass) -> String {
    format!(
        "The glass was broken by {}: until {} nothing needs a second person. The reason given: {}",
        glass.who,
        shown::local(glass.until),
        glass.reason
    )
}

fn list(global: &Global, options: &ListOptions) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        return over_api::list(global, options, &api);
    }
    let config = options.config.load()?;
    let state = State::open(&config.server.state)?;
    let now = Timestamp::now();
    let filter = ApprovalFilter {
        waiting: options.waiting.then_some(now),
        limit: Some(options.limit),
        ..ApprovalFilter::default()
    };
    let rows = state.approvals(&filter)?;
    let list = List {
        required: config
            .approvals
            .required
            .iter()
            .map(ToString::to_string)
            .collect(),
        broken_glass: state.broken_glass(now)?.as_ref().map(told),
        requests: rows.iter().map(|request| Row::new(request, now)).collect(),
    };
    output::result(global, &list, words);
    Ok(Exit::Done)
}

fn words(list: &List, out: &mut String) {
    if list.required.is_empty() {
        out.push_str("Nothing needs a second person here ([approvals] in the configuration).\n");
    } else {
        out.push_str(&format!(
            "A second person is needed for: {}.\n",
            list.required.join(", ")
        ));
    }
    if let Some(glass) = &list.broken_glass {
        out.push_str(&format!("{glass}\n"));
    }
    let heading = ["NUMBER", "STANDING", "WHO", "WHAT", "UNTIL"]
        .map(String::from)
        .to_vec();
    let cells = |row: &Row| {
        vec![
            row.number.to_string(),
            row.standing.clone(),
            row.who.clone(),
            row.subject.clone(),
            shown::local(row.expires),
        ]
    };
    let rows: Vec<_> = std::iter::once(heading)
        .chain(list.requests.iter().map(cells))
        .collect();
    if rows.len() > 1 {
        output::table(&rows, &[], out);
    }
}

fn decided(row: &Row, out: &mut String) {
    out.push_str(&format!(
        "Request {}, {}: {}.\n",
        row.number, row.subject, row.standing
    ));
    if row.standing == Standing::Approved.name() {
        let until = shown::local(row.expires);
        out.push_str(&format!("{} can do it once, until {until}.\n", row.who));
    }
}

fn decide(global: &Global, options: &DecideOptions, approve: bool) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        return over_api::decide(global, options, approve, &api);
    }
    let user = options.user.as_ref();
    let user = user.ok_or_else(|| Failure::Usage("say who decides with --as USER".into()))?;
    let config = options.config.load()?;
    let gate = Gate::on_host(&config)?;
    let password = credentials::password_of(user, options.user_password_file.as_deref())?;
    gate.confirm_on_host(user, &password)?;
    let now = Timestamp::now();
    let who = user.clone().into();
    let done = gate.decide(&who, options.number, approve, &options.remark, now)?;
    output::result(global, &Row::new(&done, now), decided);
    Ok(Exit::Done)
}

fn break_glass(global: &Global, options: &GlassOptions) -> Result<Exit> {
    let config = options.config.load()?;
    let usage = |why: String| Err(Failure::Usage(why));
    check_words(&options.reason)?;
    if options.reason.trim().is_empty() {
        return usage("say why with --reason: everybody will ask".into());
    }
    let most = config.approvals.break_glass;
    if options.length.0 > most.0 || options.length.0.is_zero() {
        return usage(format!(
            "--for: the glass can be broken for {most} at most (break-glass in [approvals])"
        ));
    }
    let state = State::open(&config.server.state)?;
    let since = Timestamp::now();
    let length = SignedDuration::try_from(options.length.0).unwrap_or(SignedDuration::ZERO);
    let glass = Glass {
        who: operator(),
        reason: options.reason.clone(),
        since,
        until: since.checked_add(length).unwrap_or(since),
    };
    state.break_glass(&glass)?;
    tracing::warn!("{}", told(&glass));
    output::result(global, &told(&glass), |told, out| {
        out.push_str(&format!("{told}\n"))
    });
    Ok(Exit::Done)
}

fn mend_glass(global: &Global, options: &MendOptions) -> Result<Exit> {
    let mended = options
        .config
        .state()?
        .mend_glass(&operator(), Timestamp::now())?;
    output::result(global, &mended, |mended, out| {
        out.push_str(match mended {
            true => "A second person is asked for again.\n",
            false => "The glass was not broken.\n",
        });
    });
    Ok(Exit::Done)
}
