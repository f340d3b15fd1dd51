//! Room for the tables of regular expressions, of which a few letters can take megabytes in every proxy.

use std::collections::HashMap;

use meltemi_proxy::plan::MOST_TABLES;

use crate::check::MOST_OF_NAMESPACE;

/// What is taken: by those whose plan it is, and the namespace whose resources take it.
#[derive(Debug, Default)]
pub(super) struct Room(HashMap<(String, String), usize>);

/// What is left in an entry, which has resources of several namespaces.
#[derive(Debug)]
pub(super) struct Left(usize);

impl Left {
    pub(super) fn new() -> Self {
        Self(MOST_TABLES)
    }
}

impl Room {
    /// Takes room in an entry of the plan of `clients` for the expressions of a resource in `namespace`, all or none.
    pub(super) fn take(&mut self, clients: &str, namespace: &str, bytes: usize, left: &mut Left) -> bool {
        if bytes == 0 {
            return true;
        }
        let taken = self.0.entry((clients.to_owned(), namespace.to_owned())).or_default();
        if bytes > left.0 || taken.saturating_add(bytes) > MOST_OF_NAMESPACE {
            return false;
        }
        *taken += bytes;
        left.0 -= bytes;
        true
    }
}

/// Why what is refused is not in force.
pub(super) fn full(namespace: &str) -> String {
    format!(
        "the regular expressions of {namespace} take more than {} MiB as tables, in the memory of every proxy that sees them: write \
         fewer, or shorter ones",
        MOST_OF_NAMESPACE >> 20
    )
}
