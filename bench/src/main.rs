//! Measures Relight beside its peers on the same data in the same run.

fn main() {}
