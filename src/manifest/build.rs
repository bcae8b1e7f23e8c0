//! Ordered entries to stored groups and a root.
