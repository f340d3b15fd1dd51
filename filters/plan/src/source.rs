//! The attributes of the connection that a call comes by: none of a call's own has these names, as far as a plan is
//! concerned.

use super::error::{Path, Result, fail};

/// What their names begin with.
pub const PREFIX: &str = "source.";

/// The address that the client calls from.
pub const IP: &str = "source.ip";
/// The namespace of its identity.
pub const NAMESPACE: &str = "source.namespace";
/// Its identity.
pub const PRINCIPAL: &str = "source.principal";

/// All of them.
pub const ATTRIBUTES: [&str; 3] = [IP, NAMESPACE, PRINCIPAL];

/// Refuses another name that begins like theirs.
pub(super) fn unknown<T>(path: &Path<'_>) -> Result<T> {
    fail(path, format!("no attribute of the connection; write one of {}", ATTRIBUTES.join(", ")))
}
