//! `POST /plan/check` and `PUT /plan`: a text is looked at without any change, and written where the plan is.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use http::{Method, StatusCode};
use jiff::Timestamp;
use relight_model::plan::{Plan, PlanErrors};
use relight_pbs::access::{Action, Guarded, Pass, Privileges};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::operation::{Operation, Place, Table};
use super::plan::{FINDINGS, LARGEST, finding_shape, findings, problem_shape, problems};
use super::plan_text::{difference, with_secrets, without_secrets};
use super::sight::{SYSTEM, Sight};
use super::{Desk, failed, schema};
use crate::approvals::{lowered, other_roles};
use crate::config::Config;
use crate::evidence::{Kind, NewEvidence, Outcome};

/// So many lines of a difference are shown and written down.
const LINES: usize = 400;

/// Path of rules about who may do what.
const ACCESS: &str = "/access/acl";

/// One after the other.
static WRITING: Mutex<()> = Mutex::new(());

pub(super) fn operations(table: &mut Table<'_>) {
    let line = schema::object(vec![
        ("sign", schema::one_of(&["-", "+"])),
        ("line", schema::count()),
        ("text", schema::text()),
    ]);
    let shape = || {
        schema::object(vec![
            ("digest", schema::text()),
            ("problems", schema::list(problem_shape())),
            ("findings", schema::list(finding_shape())),
            ("total-findings", schema::count()),
            ("difference", schema::list(line.clone())),
            ("differs", schema::truth()),
        ])
    };
    let check = Operation::of(
        Method::POST,
        "/api/v1/plan/check",
        "What the checker finds in a text, and how it differs from what is written now; nothing is changed. Needs Sys.Audit at \
         /system",
        shape(),
    )
    .with("text", Place::Body, schema::text(), "all of the file, as it was shown and edited");
    table.add(check, check_text);
    let write = Operation::of(
        Method::PUT,
        "/api/v1/plan",
        "Write the plan; refused while it has errors, or if the file has changed since it was read (409). Needs Sys.Modify at \
         /system; to change roles also Permissions.Modify at /access/acl",
        shape(),
    )
    .with("text", Place::Body, schema::text(), "all of the file, as it was shown and edited")
    .with("based-on", Place::Body, schema::text(), "the digest of the text that was edited");
    table.add(write, write_text);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Edited {
    text: String,
    based_on: String,
}

/// The file as it is now.
pub(super) fn read(path: &Path) -> ApiResult<String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
    read.map_err(|error| {
        tracing::error!("{}: {error}", path.display());
        ApiError::internal("the configuration cannot be read; the server's log tells why")
    })?;
    Ok(text)
}

/// A text that was looked at.
struct Looked {
    /// With what is secret in it.
    whole: String,
    plan: Option<Plan>,
    problems: Vec<Value>,
    answer: Value,
    /// The difference, in lines.
    difference: Vec<String>,
}

fn look(desk: &Desk, now: &str, edited: &str) -> ApiResult<Looked> {
    let (whole, secret) = match with_secrets(now, edited) {
        Ok(whole) => (whole, None),
        Err(why) => (edited.to_owned(), Some(why)),
    };
    let (mut problems, plan) = match Plan::parse(&whole) {
        Ok(plan) => (Vec::new(), Some(plan)),
        Err(PlanErrors(found)) => (problems(&found), None),
    };
    problems.truncate(FINDINGS);
    let mut refuse = |why: String| problems.push(json!({"line": line_of(&why), "column": 1, "message": why}));
    if let Some(why) = secret {
        refuse(why);
    }
    // What the server itself works by is not for people who only reach its page.
    match (Config::parse(&desk.plan, now), Config::parse(&desk.plan, &whole)) {
        (_, Err(error)) => refuse(error.to_string()),
        (Ok(old), Ok(new)) if format!("{old:?}") != format!("{new:?}") => refuse(
            "the server's own settings (server, repositories, restore, mail, approvals, sign-in) are not changed here: edit the file on the server \
             and restart it"
                .into(),
        ),
        _ => {}
    }
    if let Some(plan) = &plan
        && plan.workloads.is_empty()
        && !desk.board.planned().plan.workloads.is_empty()
    {
        refuse("it names no workload any more, so that nothing would be protected".into());
    }
    let (found, total) = match &plan {
        Some(plan) => findings(desk, plan)?,
        None => (Vec::new(), 0),
    };
    let lines = difference(now, &whole);
    let shown: Vec<Value> = lines
        .iter()
        .take(LINES)
        .map(|(sign, line, text)| json!({"sign": sign.to_string(), "line": line, "text": without_secrets(text)}))
        .collect();
    let answer = json!({
        "digest": crate::runs::digest(now),
        "problems": problems,
        "findings": found,
        "total-findings": total,
        "difference": shown,
        "differs": !lines.is_empty(),
    });
    let difference = lines
        .iter()
        .take(LINES)
        .map(|(sign, line, text)| format!("{sign}{line}: {}", without_secrets(text)))
        .collect();
    Ok(Looked {
        plan,
        problems,
        answer,
        difference,
        whole,
    })
}

/// The line that a remark begins with, if it does.
fn line_of(why: &str) -> usize {
    let number = why
        .split("line ")
        .nth(1)
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    number.and_then(|number| number.parse().ok()).unwrap_or(1)
}

fn check_text(desk: &Desk, call: &Call, text: Text) -> ApiResult<Answer> {
    Sight::new(call, &desk.board.planned().plan).require_system()?;
    let now = read(&desk.plan)?;
    Answer::data(look(desk, &now, &text.text)?.answer)
}

fn write_text(desk: &Desk, call: &Call, edited: Edited) -> ApiResult<Answer> {
    call.require(SYSTEM, Privileges::SYS_MODIFY)?;
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let now = read(&desk.plan)?;
    let digest = crate::runs::digest(&now);
    if digest != edited.based_on {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "the plan was changed by somebody else since you read it: load it again, and make your changes in what it is now",
        ));
    }
    let mut looked = look(desk, &now, &edited.text)?;
    if let Some(first) = looked.problems.first() {
        let message = first["message"].as_str().unwrap_or_default();
        return Err(ApiError::bad_request(format!(
            "the plan is not written, because it has errors; the first, line {}: {message}",
            first["line"]
        )));
    }
    let errors = looked.answer["findings"].as_array().into_iter().flatten();
    let worst: Vec<&Value> = errors.filter(|finding| finding["severity"] == "error").collect();
    // What was wrong before is no reason not to change something else.
    let before: Vec<String> = match Plan::parse(&now) {
        Ok(plan) => findings(desk, &plan)?.0.iter().map(same).collect(),
        Err(_) => Vec::new(),
    };
    if let Some(new) = worst.iter().find(|finding| !before.contains(&same(finding))) {
        return Err(ApiError::bad_request(format!(
            "the plan is not written, because the checker finds an error that was not there before: {} {}: {}",
            new["code"].as_str().unwrap_or_default(),
            new["subject"].as_str().unwrap_or_default(),
            new["reason"].as_str().unwrap_or_default()
        )));
    }
    if looked.difference.is_empty() {
        return Answer::data(looked.answer);
    }
    let passes = approved(desk, call, &now, &looked)?;
    let written = replace(&desk.plan, &now, &looked.whole);
    let done = crate::runs::digest(&looked.whole);
    let detail = Map::from_iter([
        ("plan-sha256".to_owned(), Value::from(done.clone())),
        ("plan-sha256-before".to_owned(), Value::from(digest)),
        ("difference".to_owned(), Value::from(looked.difference.clone())),
    ]);
    let record = NewEvidence {
        time: Timestamp::now(),
        kind: Kind::Change,
        who: Some(call.who()?.to_string()),
        what: format!("changed the plan: {} lines", looked.difference.len()),
        outcome: match written {
            Ok(()) => Outcome::Done,
            Err(_) => Outcome::Failed,
        },
        detail,
    };
    match &written {
        // It was agreed on here: the follower need not ask for it again.
        Ok(()) if desk.gate.is_guarded(Action::Retention) => {
            desk.gate.state().set_agreed_plan(&looked.whole).map_err(failed)?;
        }
        Ok(()) => {}
        Err(_) => {
            for pass in passes {
                desk.gate.give_back(pass, Timestamp::now());
            }
        }
    }
    desk.gate.state().add_evidence(&[record]).map_err(failed)?;
    written.map_err(|error| {
        tracing::error!("{}: {error}", desk.plan.display());
        match error.kind() {
            std::io::ErrorKind::Other => ApiError::new(StatusCode::CONFLICT, error.to_string()),
            _ => ApiError::bad_request(format!(
                "the server cannot write its configuration ({error}): let its user write the file and its folder, or edit it on the server"
            )),
        }
    })?;
    looked.answer["digest"] = done.into();
    Answer::data(looked.answer)
}

/// What makes two findings the same, wherever they stand.
fn same(finding: &Value) -> String {
    format!("{} {} {}", finding["code"], finding["subject"], finding["reason"])
}

/// Leave to write it: what keeps or promises less, and what gives people something else to do, may need a second person.
fn approved(desk: &Desk, call: &Call, now: &str, looked: &Looked) -> ApiResult<Vec<Pass>> {
    let Some(new) = &looked.plan else {
        return Ok(Vec::new());
    };
    let running = desk.board.planned();
    let old = Plan::parse(now).ok();
    let old = old.as_ref().unwrap_or(&running.plan);
    let mut asked = Vec::new();
    let less = lowered(old, new);
    if !less.is_empty() {
        asked.push((
            Action::Retention,
            format!("a plan that keeps or promises less: {}", less.join("; ")),
        ));
    }
    if other_roles(old, new) {
        // Whoever may change the plan must not thereby give himself what else he may not.
        call.require(ACCESS, Privileges::PERMISSIONS_MODIFY)?;
        asked.push((Action::Access, "a plan that gives people other roles".to_owned()));
    }
    let exact = format!(
        "{} {}",
        crate::runs::digest(now),
        crate::runs::digest(&looked.whole)
    );
    let mut passes = Vec::new();
    for (action, what) in asked {
        let subject = format!("{what}\n{}", looked.difference.join("\n"));
        let guarded = Guarded {
            action,
            path: SYSTEM,
            subject: &subject,
            exact: &exact,
            reason: None,
        };
        match call.access().approved(call.who()?, &guarded) {
            Ok(pass) => passes.push(pass),
            Err(why) => {
                for pass in passes {
                    desk.gate.give_back(pass, Timestamp::now());
                }
                return Err(why.into());
            }
        }
    }
    Ok(passes)
}

/// Puts a new text in the place of a file, whole or not at all, with the owner and the rights of the one before.
fn replace(path: &Path, expected: &str, text: &str) -> std::io::Result<()> {
    // Of a link what it points at: the link stays.
    let path = std::fs::canonicalize(path)?;
    let before = std::fs::metadata(&path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.{}.new", std::process::id()));
    let _ = std::fs::remove_file(&new);
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&new)?;
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
            let (user, group) = (before.uid(), before.gid());
            std::os::unix::fs::fchown(file.as_fd(), Some(user), Some(group))?;
        }
        file.set_permissions(before.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if std::fs::read_to_string(&path)? != expected {
            return Err(std::io::Error::other(
                "the plan was changed on the server at the same moment: load it again",
            ));
        }
        std::fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::replace;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_rights() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("plan.toml"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, "old", "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert!(link.is_symlink());
        assert!(
            replace(&file, "old", "newer").is_err(),
            "somebody else was faster"
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
