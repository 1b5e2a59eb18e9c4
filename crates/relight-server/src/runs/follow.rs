//! The plan as a file that an operator edits while the server runs.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use relight_model::plan::Plan;

use super::context::Planned;
use crate::config::Config;
use crate::error::{Result, ServerError};

/// File in the folder of the state.
const LAST_GOOD: &str = "plan.last-good.toml";

/// Where the last plan is kept that could be understood.
pub(super) fn kept(config: &Config) -> PathBuf {
    config.server.state.join(LAST_GOOD)
}

/// When a file was last written, and how long it is.
pub(super) type Look = (SystemTime, u64);

/// Looks at a file.
pub(super) fn modified(path: &Path) -> Option<Look> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// Whether a plan would leave nothing protected where something was: an editor that empties a file before it writes it, or a
/// slip, must not end all backups. Who means it starts the server again.
pub(super) fn is_emptied(before: &Planned, now: &Planned) -> bool {
    now.plan.workloads.is_empty() && !before.plan.workloads.is_empty()
}

/// Reads a plan.
///
/// # Errors
/// It cannot be read, or not be understood.
pub(super) fn read_plan(path: &Path) -> Result<Planned> {
    let text = std::fs::read_to_string(path).map_err(ServerError::file("read the plan in", path))?;
    let plan = Plan::parse(&text).map_err(|errors| ServerError::Config {
        path: path.to_path_buf(),
        why: errors.to_string(),
    })?;
    Ok(Planned::new(plan, &text))
}

/// The plan in the configuration, or else the last one that could be understood: a typing error must not be the reason why
/// nothing is backed up after a restart.
pub(super) fn plan_at_start(config: &Config) -> Result<Planned> {
    let kept = kept(config);
    match read_plan(&config.path) {
        Ok(planned) => {
            keep(&config.path, &kept);
            Ok(planned)
        }
        Err(error) if kept.exists() => {
            let planned = read_plan(&kept)?;
            tracing::error!(
                "{error}; the last plan that could be understood is kept, {}",
                kept.display()
            );
            Ok(planned)
        }
        Err(error) => Err(error),
    }
}

/// Keeps a copy of a plan that could be understood.
pub(super) fn keep(plan: &Path, kept: &Path) {
    let new = kept.with_extension("new");
    let copied = std::fs::copy(plan, &new).and_then(|_| std::fs::rename(&new, kept));
    if let Err(error) = copied {
        tracing::warn!("keep a copy of the plan in {}: {error}", kept.display());
    }
}
