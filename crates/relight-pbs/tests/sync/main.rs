//! Copies between two servers, in this process, over TLS.

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod moving;
mod pulling;
mod pushing;
mod sides;
mod source;
