//! How each kind of workload is captured and restored. Knows nothing of HTTP, users or schedules.
