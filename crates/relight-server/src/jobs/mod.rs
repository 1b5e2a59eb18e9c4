//! Work that the server does by itself or when asked: copies from and to other servers, run as tasks, once at a time.

mod remote;
mod schedule;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use relight_model::ByteSize;
use relight_pbs::access::{Access, AuthId};
use relight_pbs::client::Rate;
use relight_pbs::formats::upid::Upid;
use relight_pbs::service::datastore::Stores;
use relight_pbs::service::http::{ApiError, ApiResult};
use relight_pbs::service::tasks::{Task, Tasks};
use relight_pbs::sync::{DEFAULT_OWNER, GroupFilters, Local, PullJob, PushJob, Selection, pull, push};
use tokio::runtime::Handle;

pub(crate) use schedule::watch;

use crate::error::ServerError;
use crate::gate::Gate;
use crate::state::{Direction, SyncJob, SyncJobFields};

/// What jobs need.
pub(crate) struct Jobs {
    pub(crate) gate: Arc<Gate>,
    pub(crate) stores: Arc<Stores>,
    pub(crate) tasks: Arc<Tasks>,
    runtime: Handle,
    running: Mutex<HashSet<String>>,
}

/// A job that runs, until this is dropped.
struct Turn {
    jobs: Arc<Jobs>,
    id: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.jobs.running().remove(&self.id);
    }
}

fn refused(error: ServerError) -> ApiError {
    match error {
        ServerError::Refused(why) => ApiError::bad_request(why),
        other => {
            tracing::error!("{other}");
            ApiError::internal("the state cannot be read or changed; the server's log tells more")
        }
    }
}

impl Jobs {
    /// Over these. Must be called where asynchronous code can run.
    pub(crate) fn new(
        gate: &Arc<Gate>,
        stores: &Arc<Stores>,
        tasks: &Arc<Tasks>,
    ) -> Result<Arc<Self>, ServerError> {
        let runtime = Handle::try_current()
            .map_err(|error| ServerError::System(format!("there is no runtime for jobs: {error}")))?;
        Ok(Arc::new(Self {
            gate: gate.clone(),
            stores: stores.clone(),
            tasks: tasks.clone(),
            runtime,
            running: Mutex::default(),
        }))
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a job as a task. `schedule` is what made it due, if that did.
    ///
    /// # Errors
    /// 400: it runs already, or names what is not there.
    pub(crate) fn run(
        self: &Arc<Self>,
        job: &SyncJob,
        who: &AuthId,
        schedule: Option<&str>,
    ) -> ApiResult<Upid> {
        if !self.running().insert(job.id.clone()) {
            return Err(ApiError::bad_request(format!(
                "sync job '{}' is running already",
                job.id
            )));
        }
        let turn = Turn {
            jobs: self.clone(),
            id: job.id.clone(),
        };
        let owner = match &job.fields.owner {
            Some(owner) => owner.clone(),
            None => DEFAULT_OWNER
                .parse()
                .map_err(|_| ApiError::internal("no owner"))?,
        };
        let fields = &job.fields;
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let shown = format!(
            "{}:{}:{}:{}:{}",
            text(&fields.remote),
            text(&fields.remote_store),
            text(&fields.store),
            fields.ns.clone().unwrap_or_default(),
            job.id
        );
        let work = self.work(job.direction(), fields, owner)?;
        let schedule = schedule.map(str::to_string);
        let name = shown.clone();
        let upid = self
            .tasks
            .run("syncjob", Some(&shown), who, move |task| {
                task.log(format!("starting datastore sync job '{name}'"));
                if let Some(schedule) = schedule {
                    task.log(format!("task triggered by schedule '{schedule}'"));
                }
                let upid = task.upid().to_string();
                let state = turn.jobs.gate.state();
                if let Err(error) = state.sync_job_begins(&turn.id, &upid) {
                    return Err(error.to_string());
                }
                let result = work(task);
                let ended = match &result {
                    Ok(()) => task.state(),
                    Err(message) => message.clone(),
                };
                task.log(format!("sync job '{name}' end"));
                if let Err(error) = state.sync_job_ended(&turn.id, &upid, &ended) {
                    tracing::error!("{error}");
                }
                drop(turn);
                result
            })
            .map_err(|error| ApiError::internal(format!("the task cannot be begun: {error}")))?;
        Ok(upid)
    }

    /// Copies once, as a task.
    ///
    /// # Errors
    /// 400: what is named is not there.
    pub(crate) fn once(
        self: &Arc<Self>,
        direction: Direction,
        fields: &SyncJobFields,
        who: &AuthId,
    ) -> ApiResult<Upid> {
        let work = self.work(direction, fields, who.clone())?;
        let store = fields.store.clone().unwrap_or_default();
        self.tasks
            .run("sync", Some(&store), who, work)
            .map_err(|error| ApiError::internal(format!("the task cannot be begun: {error}")))
    }

    /// What a job does, to be done on a thread of its own.
    fn work(
        self: &Arc<Self>,
        direction: Direction,
        fields: &SyncJobFields,
        owner: AuthId,
    ) -> ApiResult<impl FnOnce(&Task) -> Result<(), String> + Send + 'static> {
        let missing =
            |what: &str| ApiError::bad_request(format!("parameter verification failed - '{what}': missing"));
        let remote = fields.remote.as_deref().ok_or_else(|| missing("remote"))?;
        let store = fields.store.as_deref().ok_or_else(|| missing("store"))?;
        let remote_store = fields
            .remote_store
            .as_deref()
            .ok_or_else(|| missing("remote-store"))?;
        let rate = |rate: &Option<String>, burst: &Option<String>| -> ApiResult<Option<Rate>> {
            let bytes = |text: &Option<String>| {
                let parsed = text.as_deref().map(str::parse::<ByteSize>).transpose();
                parsed.map_err(|error| ApiError::bad_request(error.to_string()))
            };
            Ok(bytes(rate)?.map(|rate| (rate, burst)).map(|(rate, burst)| {
                let burst = bytes(burst).ok().flatten();
                Rate::new(rate.0, burst.map(|burst| burst.0))
            }))
        };
        let limits = (
            rate(&fields.rate_in, &fields.burst_in)?,
            rate(&fields.rate_out, &fields.burst_out)?,
        );
        let client = remote::client(self.gate.state(), remote, remote_store, limits)?;
        let access: Arc<dyn Access> = self.gate.clone();
        let local = Local {
            store: self.stores.get(store)?,
            namespace: fields.ns.clone().unwrap_or_default(),
            owner,
            access,
        };
        let selection = Selection {
            filters: GroupFilters(fields.group_filter.clone().unwrap_or_default()),
            max_depth: fields.max_depth,
            transfer_last: fields.transfer_last,
            encrypted_only: fields.encrypted_only.unwrap_or_default(),
            verified_only: fields.verified_only.unwrap_or_default(),
            remove_vanished: fields.remove_vanished.unwrap_or_default(),
            resync_corrupt: fields.resync_corrupt.unwrap_or_default(),
        };
        let remote_namespace = fields.remote_ns.clone().unwrap_or_default();
        let remote_path = format!("/remote/{remote}/{remote_store}");
        let remote_id = client.auth_id().clone();
        let (there, here) = (format!("{remote}/{remote_store}"), store.to_string());
        let runtime = self.runtime.clone();
        Ok(move |task: &Task| {
            let result = match direction {
                Direction::Pull => {
                    task.log(format!("sync datastore '{here}' from '{there}'"));
                    let job = PullJob {
                        client,
                        remote_namespace,
                        local,
                        selection,
                    };
                    runtime.block_on(pull(&job, task))
                }
                Direction::Push => {
                    task.log(format!("sync datastore '{here}' to '{there}'"));
                    let job = PushJob {
                        client,
                        remote_namespace,
                        remote_id,
                        remote_path,
                        local,
                        selection,
                    };
                    runtime.block_on(push(&job, task))
                }
            };
            result.map(drop).map_err(|error| error.to_string())
        })
    }
}

pub(crate) use remote::scan;
