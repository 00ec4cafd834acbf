//! piperoll
fn main() {}
