//! Pure values and rules: retention, calendar, objectives. No I/O, no clock of its own, no async.
