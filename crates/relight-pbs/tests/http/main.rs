//! HTTP/1.1 as clients of the protocol speak it, and as hostile ones do.

mod calls;
mod lab;
mod tasks;
