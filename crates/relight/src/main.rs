//! The command line of Relight: one program for every task.

fn main() {}
