//! The `meltemi` command.
fn main() {}
