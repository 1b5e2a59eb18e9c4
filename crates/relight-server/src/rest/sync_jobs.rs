//! Jobs that copy, `/config/sync` and `/admin/sync`, and copies at once, `/pull` and `/push`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use http::Method;
use jiff::tz::TimeZone;
use relight_pbs::access::{Action, AuthId, Guarded, Privileges};
use relight_pbs::formats::ids::Namespace;
use relight_pbs::service::datastore::acl_path;
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call, Router};
use relight_pbs::sync::{DEFAULT_OWNER, GroupFilter};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{digest, failed, require_digest};
use crate::jobs::Jobs;
use crate::state::{Direction, JobRun, SyncJob, SyncJobFields};

const ALL: &str = "/config/sync";
const ONE: &str = "/config/sync/{id}";

/// Defines the parameters of a call: those of a job, and more.
macro_rules! parameters {
    ($(#[$meta:meta])* struct $name:ident { $($(#[$extra_meta:meta])* $extra:ident: $extra_type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        struct $name {
            $($(#[$extra_meta])* $extra: $extra_type,)*
            store: Option<String>,
            ns: Option<Namespace>,
            owner: Option<AuthId>,
            remote: Option<String>,
            remote_store: Option<String>,
            remote_ns: Option<Namespace>,
            remove_vanished: Option<bool>,
            max_depth: Option<usize>,
            comment: Option<String>,
            schedule: Option<String>,
            group_filter: Option<Vec<GroupFilter>>,
            rate_in: Option<String>,
            burst_in: Option<String>,
            rate_out: Option<String>,
            burst_out: Option<String>,
            transfer_last: Option<NonZeroUsize>,
            resync_corrupt: Option<bool>,
            encrypted_only: Option<bool>,
            verified_only: Option<bool>,
            sync_direction: Option<Direction>,
            /// There are no removable datastores here.
            #[allow(dead_code, reason = "clients send it")]
            run_on_mount: Option<bool>,
            /// How many threads copy is decided here.
            #[allow(dead_code, reason = "clients send it")]
            worker_threads: Option<u8>,
        }

        impl $name {
            /// Puts what was given over what is there.
            fn over(self, before: SyncJobFields) -> SyncJobFields {
                SyncJobFields {
                    store: self.store.or(before.store),
                    ns: self.ns.or(before.ns),
                    owner: self.owner.or(before.owner),
                    remote: self.remote.or(before.remote),
                    remote_store: self.remote_store.or(before.remote_store),
                    remote_ns: self.remote_ns.or(before.remote_ns),
                    remove_vanished: self.remove_vanished.or(before.remove_vanished),
                    max_depth: self.max_depth.or(before.max_depth),
                    comment: self.comment.or(before.comment).filter(|comment| !comment.is_empty()),
                    schedule: self.schedule.or(before.schedule),
                    group_filter: self.group_filter.or(before.group_filter),
                    rate_in: self.rate_in.or(before.rate_in),
                    burst_in: self.burst_in.or(before.burst_in),
                    rate_out: self.rate_out.or(before.rate_out),
                    burst_out: self.burst_out.or(before.burst_out),
                    transfer_last: self.transfer_last.or(before.transfer_last),
                    resync_corrupt: self.resync_corrupt.or(before.resync_corrupt),
                    encrypted_only: self.encrypted_only.or(before.encrypted_only),
                    verified_only: self.verified_only.or(before.verified_only),
                    sync_direction: self.sync_direction.or(before.sync_direction),
                }
            }
        }
    };
}

parameters! {
    struct New {
        id: String,
    }
}

parameters! {
    struct Change {
        id: String,
        #[serde(default)]
        delete: Vec<String>,
        digest: Option<String>,
    }
}

parameters! {
    struct Once {}
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    id: String,
    digest: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Listed {
    All,
    Pull,
    Push,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct List {
    store: Option<String>,
    sync_direction: Option<Listed>,
}

impl List {
    fn wants(&self, job: &SyncJob) -> bool {
        let direction = match self.sync_direction {
            Some(Listed::All) => true,
            Some(Listed::Push) => job.direction() == Direction::Push,
            None | Some(Listed::Pull) => job.direction() == Direction::Pull,
        };
        direction && (self.store.is_none() || self.store == job.fields.store)
    }
}

fn local_path(fields: &SyncJobFields) -> String {
    let namespace = fields.ns.clone().unwrap_or_default();
    acl_path(fields.store.as_deref().unwrap_or_default(), &namespace)
}

fn remote_path(fields: &SyncJobFields, with_namespace: bool) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let mut path = format!("/remote/{}/{}", text(&fields.remote), text(&fields.remote_store));
    if let Some(namespace) = fields
        .remote_ns
        .as_ref()
        .filter(|one| with_namespace && !one.is_root())
    {
        path.push_str(&format!("/{namespace}"));
    }
    path
}

/// Whether the caller sees a job.
fn sees(call: &Call, job: &SyncJob) -> ApiResult<bool> {
    let fields = &job.fields;
    let here = call
        .privileges(&local_path(fields))?
        .intersects(Privileges::DATASTORE_AUDIT);
    let path = format!("/remote/{}", fields.remote.as_deref().unwrap_or_default());
    Ok(here && call.privileges(&path)?.intersects(Privileges::REMOTE_AUDIT))
}

/// Goes on only if the caller may do what is asked for, on both sides.
fn require(call: &Call, direction: Direction, fields: &SyncJobFields) -> ApiResult<()> {
    let vanished = fields.remove_vanished.unwrap_or_default();
    match direction {
        Direction::Pull => {
            call.require(&local_path(fields), Privileges::DATASTORE_BACKUP)?;
            call.require(&remote_path(fields, false), Privileges::REMOTE_READ)?;
            if vanished {
                call.require(&local_path(fields), Privileges::DATASTORE_PRUNE)?;
            }
        }
        Direction::Push => {
            let either = Privileges::DATASTORE_READ | Privileges::DATASTORE_BACKUP;
            call.require_some(&local_path(fields), either)?;
            call.require(&remote_path(fields, true), Privileges::REMOTE_DATASTORE_BACKUP)?;
            if vanished {
                call.require(&remote_path(fields, true), Privileges::REMOTE_DATASTORE_PRUNE)?;
            }
        }
    }
    Ok(())
}

/// Does something by which a job may begin to remove recovery points here that are gone elsewhere; that may need a second person.
fn guarded<T>(
    call: &Call,
    direction: Direction,
    fields: &SyncJobFields,
    what: &str,
    action: impl FnOnce() -> ApiResult<T>,
) -> ApiResult<T> {
    if direction != Direction::Pull || !fields.remove_vanished.unwrap_or_default() {
        return action();
    }
    let subject = format!(
        "{what}, which deletes recovery points in {} that are gone in {} of {}",
        fields.store.as_deref().unwrap_or_default(),
        fields.remote_store.as_deref().unwrap_or_default(),
        fields.remote.as_deref().unwrap_or_default(),
    );
    let guarded = Guarded {
        action: Action::Delete,
        path: &local_path(fields),
        subject: &subject,
        exact: &json!(fields).to_string(),
        reason: None,
    };
    call.guarded(&guarded, action)
}

/// Goes on only if the caller may make, change or run a job.
fn require_job(call: &Call, job: &SyncJob) -> ApiResult<()> {
    require(call, job.direction(), &job.fields)?;
    let who = call.who()?;
    let is_own = match &job.fields.owner {
        Some(owner) => who.owns_as(owner),
        None => who.to_string() == DEFAULT_OWNER,
    };
    if is_own {
        return Ok(());
    }
    // The same as is needed to give groups to others.
    call.require(&local_path(&job.fields), Privileges::DATASTORE_MODIFY)
}

/// Takes properties away.
fn without(fields: SyncJobFields, names: &[String]) -> ApiResult<SyncJobFields> {
    let mut value = json!(fields);
    for name in names {
        let known = ["store", "remote-store"].iter().all(|needed| needed != name);
        match value.as_object_mut() {
            Some(fields) if known => drop(fields.remove(name)),
            _ => return Err(ApiError::bad_request(format!("'{name}' cannot be deleted"))),
        }
    }
    serde_json::from_value(value).map_err(|error| ApiError::internal(error.to_string()))
}

/// The state of a job, as lists show it.
fn status(jobs: &Jobs, job: &SyncJob, run: &JobRun) -> ApiResult<Value> {
    let mut entry = serde_json::to_value(job).map_err(|error| ApiError::internal(error.to_string()))?;
    if let Some(next) = job
        .event()
        .and_then(|event| event.next_after(run.since, &TimeZone::system()))
    {
        entry["next-run"] = next.as_second().into();
    }
    if let Some(upid) = run.upid.as_deref().filter(|upid| !upid.is_empty()) {
        entry["last-run-upid"] = upid.into();
    }
    let ended = run.state.clone().zip(run.ended);
    // Of a task that ended with the server nobody wrote how.
    let ended = ended.or_else(|| {
        let info = jobs.tasks.info(&run.upid.as_deref()?.parse().ok()?)?;
        info.end.map(|(time, end)| (end.text(), time.as_second()))
    });
    if let Some((state, time)) = ended {
        entry["last-run-state"] = state.into();
        entry["last-run-endtime"] = time.into();
    }
    Ok(entry)
}

fn all(jobs: &Jobs) -> ApiResult<Vec<(SyncJob, JobRun)>> {
    jobs.gate.state().sync_jobs().map_err(failed)
}

fn configs(list: &[(SyncJob, JobRun)]) -> Vec<&SyncJob> {
    list.iter().map(|(job, _)| job).collect()
}

pub(super) fn routes(router: &mut Router, jobs: &Arc<Jobs>) {
    let of = jobs.clone();
    router.on_blocking(Method::GET, ALL, move |call, list: List| {
        let known = all(&of)?;
        let mut seen = Vec::new();
        for (job, _) in &known {
            if list.wants(job) && sees(&call, job)? {
                seen.push(job);
            }
        }
        Ok(Answer::data(&seen)?.with("digest", digest(&configs(&known))?))
    });
    let of = jobs.clone();
    router.on_blocking(Method::POST, ALL, move |call, new: New| {
        let id = new.id.clone();
        let fields = new.over(SyncJobFields::default());
        let job = SyncJob { id, fields };
        require_job(&call, &job)?;
        let what = format!("make the job {}", job.id);
        guarded(&call, job.direction(), &job.fields, &what, || {
            of.gate.state().add_sync_job(&job).map_err(failed)?;
            Ok(Answer::null())
        })
    });
    let of = jobs.clone();
    router.on_blocking(Method::GET, ONE, move |call, one: One| {
        let (job, _) = of.gate.state().sync_job(&one.id).map_err(failed)?;
        if !sees(&call, &job)? {
            return Err(ApiError::forbidden());
        }
        Ok(Answer::data(job)?.with("digest", digest(&configs(&all(&of)?))?))
    });
    let of = jobs.clone();
    router.on_blocking(Method::PUT, ONE, move |call, change: Change| {
        let state = of.gate.state();
        require_digest(change.digest.as_deref(), &configs(&all(&of)?))?;
        let (before, _) = state.sync_job(&change.id).map_err(failed)?;
        require_job(&call, &before)?;
        let left = without(before.fields, &change.delete)?;
        let job = SyncJob {
            id: before.id,
            fields: change.over(left),
        };
        require_job(&call, &job)?;
        let what = format!("change the job {}", job.id);
        guarded(&call, job.direction(), &job.fields, &what, || {
            state.change_sync_job(&job).map_err(failed)?;
            Ok(Answer::null())
        })
    });
    let of = jobs.clone();
    router.on_blocking(Method::DELETE, ONE, move |call, one: One| {
        let state = of.gate.state();
        require_digest(one.digest.as_deref(), &configs(&all(&of)?))?;
        let (job, _) = state.sync_job(&one.id).map_err(failed)?;
        require_job(&call, &job)?;
        state.remove_sync_job(&one.id).map_err(failed)?;
        Ok(Answer::null())
    });
    running(router, jobs);
}

fn running(router: &mut Router, jobs: &Arc<Jobs>) {
    let of = jobs.clone();
    router.on_blocking(Method::GET, "/admin/sync", move |call, list: List| {
        let known = all(&of)?;
        let mut seen = Vec::new();
        for (job, run) in &known {
            if list.wants(job) && sees(&call, job)? {
                seen.push(status(&of, job, run)?);
            }
        }
        Ok(Answer::data(seen)?.with("digest", digest(&configs(&known))?))
    });
    let of = jobs.clone();
    router.on_blocking(Method::POST, "/admin/sync/{id}/run", move |call, one: One| {
        let (job, _) = of.gate.state().sync_job(&one.id).map_err(failed)?;
        require_job(&call, &job)?;
        Answer::data(of.run(&job, call.who()?, None)?)
    });
    for (path, direction) in [("/pull", Direction::Pull), ("/push", Direction::Push)] {
        let of = jobs.clone();
        router.on_blocking(Method::POST, path, move |call, once: Once| {
            let fields = once.over(SyncJobFields::default());
            require(&call, direction, &fields)?;
            guarded(&call, direction, &fields, "copy once", || {
                Answer::data(of.once(direction, &fields, call.who()?)?)
            })
        });
    }
}
