//! Stopping: the first interrupt asks politely, the second one ends the program.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

static CANCELLED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Becomes true when somebody asks to stop.
pub fn flag() -> Arc<AtomicBool> {
    CANCELLED.clone()
}

/// Listens for interrupts from here on.
pub fn install() {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the second signal finds the flag set and ends the program.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 130, flag());
        let _ = signal_hook::flag::register(signal, flag());
    }
}
