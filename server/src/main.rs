//! The binary `leveret`.

fn main() {}
