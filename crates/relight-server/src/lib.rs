//! The server: configuration, state, access, audit and listeners.
//!
//! ```text
//! configuration (one TOML file) ─┐
//! state (SQLite: users, tokens, rules, records) ─ gate (who may do what) ─┐
//! repositories, one datastore each ─ routes of the protocol (relight-pbs) ┴─ HTTP/1.1 ─ TLS ─ listeners
//! ```

mod api;
pub mod approvals;
pub mod config;
pub mod drills;
mod error;
pub mod evidence;
pub mod gate;
mod jobs;
pub mod kinds;
mod listener;
pub mod logs;
pub mod monitor;
mod notify;
mod own;
mod page;
pub mod report;
mod repositories;
mod rest;
pub mod roles;
mod run;
pub mod runs;
mod server;
pub mod signin;
pub mod standing;
pub mod state;
mod tls;
mod unpack;

pub use error::{Result, ServerError};
pub use own::{Adopted, adopt};
pub use repositories::open_repository;
pub use run::{Listening, serve};
pub use server::{Server, Stopper};
