//! HTTP/1.1 as the clients of the protocol speak it: one connection after TLS, routes with typed parameters, answers and errors
//! in their shapes, and the hand-over to HTTP/2 sessions.
//!
//! A module that answers calls adds its routes to a [`Router`]; whoever listens makes an [`HttpService`] of it and calls
//! [`HttpService::serve`] for each connection.

mod answer;
mod body;
mod call;
mod connection;
mod dispatch;
mod error;
mod linger;
mod parameters;
mod redirect;
mod router;
mod shape;

pub use answer::{Answer, Session, UpgradedIo};
pub use body::{Body, BodyWriter};
pub use call::Call;
pub use connection::{HttpService, Limits};
pub use error::{ApiError, ApiResult};
pub use parameters::{NoParameters, Parameters};
pub use redirect::{is_tls, redirect};
pub use router::{Route, Router, blocking};
