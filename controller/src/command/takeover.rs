//! Which ports are taken over, as people are shown before it happens.

use super::findings::{columns, rows};
use crate::generate::Takeover;
use crate::screen;

/// Tells on the standard error which ports are taken over, and which of Redis are left alone.
pub(crate) fn tell<'a>(takeovers: impl IntoIterator<Item = &'a Takeover>) {
    let (managed, left): (Vec<_>, Vec<_>) = takeovers.into_iter().partition(|port| port.is_managed);
    if !managed.is_empty() {
        screen::about("would be taken over:");
        screen::remark(table(&managed));
    }
    tell_left(left);
}

/// Tells which ports of Redis are left alone, so that nobody waits for their proxy.
pub(super) fn tell_left<'a>(left: impl IntoIterator<Item = &'a Takeover>) {
    let left: Vec<&Takeover> = left.into_iter().filter(|port| !port.is_managed).collect();
    if !left.is_empty() {
        screen::about(
            "left alone, since no RedisService or RedisDestination of the namespace names the host:",
        );
        screen::remark(table(&left));
    }
}

fn table(ports: &[&Takeover]) -> String {
    let mut table = columns(&["NAMESPACE", "HOST", "PORT", "PROTOCOL"]);
    for Takeover { namespace, host, port, protocol, .. } in ports {
        table.add_row([namespace, host, &port.to_string(), protocol]);
    }
    rows(&table)
}
