//! The server: configuration, state, access, audit and listeners.
