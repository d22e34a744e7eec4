//! Floor 3: files followed as one stream of changes.

pub mod tree;
