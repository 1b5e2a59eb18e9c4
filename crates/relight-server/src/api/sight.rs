//! What a caller may see: workloads and runs by the place of their snapshots, the rest by the server's privileges.

use std::cell::RefCell;
use std::collections::HashMap;

use relight_model::Workload;
use relight_model::plan::{Plan, WorkloadEntry};
use relight_model::schedule::{JobId, RunKind};
use relight_model::workload::WorkloadError;
use relight_pbs::access::Privileges;
use relight_pbs::service::http::{ApiError, ApiResult, Call};

use crate::roles::workload_path;
use crate::state::Run;

pub(super) use crate::roles::SYSTEM;

/// What one caller may see and do. What was asked once is remembered for the call.
pub(super) struct Sight<'a> {
    call: &'a Call,
    plan: &'a Plan,
    known: RefCell<HashMap<String, Privileges>>,
}

impl<'a> Sight<'a> {
    pub fn new(call: &'a Call, plan: &'a Plan) -> Self {
        Self {
            call,
            plan,
            known: RefCell::default(),
        }
    }

    fn at(&self, path: String) -> ApiResult<Privileges> {
        if let Some(known) = self.known.borrow().get(&path) {
            return Ok(*known);
        }
        let found = self.call.privileges(&path)?;
        self.known.borrow_mut().insert(path, found);
        Ok(found)
    }

    /// Whether it may see the server's own affairs: plan, evidence, exercises.
    pub fn system(&self) -> ApiResult<bool> {
        Ok(self.at(SYSTEM.into())?.contains(Privileges::SYS_AUDIT))
    }

    /// Its privileges in the place of a workload's snapshots in a repository.
    fn place(&self, repository: &str, workload: &Workload) -> ApiResult<Privileges> {
        self.at(workload_path(repository, workload))
    }

    /// The repository of a workload of the plan.
    fn home(&self, workload: &Workload) -> Option<&str> {
        let (_, policy) = self.plan.policy_of(self.plan.workload(workload)?)?;
        Some(&policy.repository.value)
    }

    /// Whether it may see a workload of the plan. One that is in no repository is the server's own affair.
    pub fn workload(&self, workload: &Workload) -> ApiResult<bool> {
        match self.home(workload) {
            Some(repository) => Ok(self
                .place(repository, workload)?
                .contains(Privileges::DATASTORE_AUDIT)),
            None => self.system(),
        }
    }

    /// A workload of the plan, by its name.
    ///
    /// # Errors
    /// 400: it is no name; 404: the plan has none that the caller may see.
    pub fn entry(&self, name: &str) -> ApiResult<&'a WorkloadEntry> {
        let name: Workload = name
            .parse()
            .map_err(|error: WorkloadError| ApiError::bad_request(error.to_string()))?;
        let none = || ApiError::not_found(format!("the plan has no workload {name} that you may see"));
        let entry = self.plan.workload(&name).ok_or_else(none)?;
        match self.workload(&name)? {
            true => Ok(entry),
            false => Err(none()),
        }
    }

    /// Whether it may see a repository.
    pub fn repository(&self, name: &str) -> ApiResult<bool> {
        Ok(self
            .at(format!("/datastore/{name}"))?
            .contains(Privileges::DATASTORE_AUDIT))
    }

    /// Whether it may see a drill of a workload out of a repository.
    pub fn restored(&self, repository: &str, workload: &Workload) -> ApiResult<bool> {
        Ok(self
            .place(repository, workload)?
            .contains(Privileges::DATASTORE_AUDIT))
    }

    /// Whether it may read what is in a workload's snapshots in a repository.
    pub fn reads(&self, repository: &str, workload: &Workload) -> ApiResult<bool> {
        Ok(self
            .place(repository, workload)?
            .contains(Privileges::DATASTORE_READ))
    }

    /// Goes on only if it has all of these privileges in the place of a workload's snapshots.
    ///
    /// # Errors
    /// 403.
    pub fn require_at(&self, repository: &str, workload: &Workload, all: Privileges) -> ApiResult<()> {
        if self.place(repository, workload)?.contains(all) {
            Ok(())
        } else {
            Err(ApiError::forbidden())
        }
    }

    /// Whether it may see a run.
    pub fn run(&self, run: &Run) -> ApiResult<bool> {
        let home = run.job.workload().and_then(|workload| self.home(workload));
        match (run.job.workload(), home.or(run.repository.as_deref())) {
            (Some(workload), Some(repository)) => self.restored(repository, workload),
            (None, Some(repository)) => self.repository(repository),
            (_, None) => self.system(),
        }
    }

    /// Goes on only if it may have a job done now.
    ///
    /// # Errors
    /// 403.
    pub fn require_job(&self, job: &JobId) -> ApiResult<()> {
        let needed = match job.kind() {
            RunKind::Backup => Privileges::DATASTORE_BACKUP,
            RunKind::Copy | RunKind::Restore => Privileges::DATASTORE_READ,
            RunKind::Verify => Privileges::DATASTORE_VERIFY,
            // What is restored is seen to work, and nobody is shown what is in it.
            RunKind::Drill => Privileges::DATASTORE_VERIFY.union(Privileges::DATASTORE_READ),
            RunKind::Forget => Privileges::DATASTORE_PRUNE.union(Privileges::DATASTORE_MODIFY),
            RunKind::Collect => Privileges::DATASTORE_MODIFY,
            RunKind::Exercise => Privileges::SYS_MODIFY,
        };
        let home = job.workload().and_then(|workload| self.home(workload));
        let has = match (job.workload(), home, job.repository()) {
            (Some(workload), Some(home), _) => self.place(home, workload)?,
            (None, _, Some(repository)) => self.at(format!("/datastore/{repository}"))?,
            _ => self.at(SYSTEM.into())?,
        };
        // Who may have it done as the plan says needs no leave to do it by its own hands.
        let asks = matches!(
            job.kind(),
            RunKind::Backup | RunKind::Copy | RunKind::Verify | RunKind::Drill
        );
        if asks && has.contains(Privileges::RUNS_ASK) {
            return Ok(());
        }
        let mut may = has.contains(needed);
        if let (RunKind::Copy, Some(workload), Some(target)) = (job.kind(), job.workload(), job.repository())
        {
            may &= self
                .place(target, workload)?
                .contains(Privileges::DATASTORE_BACKUP);
        }
        if may { Ok(()) } else { Err(ApiError::forbidden()) }
    }

    /// Goes on only if it may read the evidence.
    ///
    /// # Errors
    /// 403.
    pub fn require_evidence(&self) -> ApiResult<()> {
        if self.at(SYSTEM.into())?.contains(Privileges::EVIDENCE_READ) {
            Ok(())
        } else {
            Err(ApiError::forbidden())
        }
    }

    /// Goes on only if it may see the server's own affairs.
    ///
    /// # Errors
    /// 403.
    pub fn require_system(&self) -> ApiResult<()> {
        if self.system()? {
            Ok(())
        } else {
            Err(ApiError::forbidden())
        }
    }
}
