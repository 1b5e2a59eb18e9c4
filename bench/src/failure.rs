//! Errors of the benchmark: what was being done, and why it failed.

use std::error::Error;
use std::fmt;

/// What was being done when something failed, and the cause.
#[derive(Debug)]
pub struct Failure {
    doing: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure without a cause below it.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            doing: what.into(),
            cause: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl Error for Failure {}

/// Says what was being done when an error came up.
pub trait Doing<T> {
    /// Wraps the error with what was being done.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Failure {
            doing: what(),
            cause: Some(cause.into()),
        })
    }
}
