//! Authorization that is tried out: who it would deny is counted and logged, and nothing else comes of it.

use meltemi_codecs::{Depth, Frame};

use crate::client::ClientId;
use crate::telemetry::DRY_RUN_DENIED;
use crate::worker::Worker;

impl Worker {
    /// Notes a request that would be denied. It is read for that alone: what is tried out changes nothing.
    #[inline(never)]
    pub(crate) fn try_out(&mut self, client_key: ClientId, bytes: &[u8], frame: Frame) {
        let Some(client) = self.clients.get(client_key) else { return };
        let service = client.service().clone();
        let Some(dry_run) = &service.dry_run else { return };
        let read = service.codec.head(bytes, dry_run.depth, &mut self.head);
        if dry_run.asks_source {
            client.source().tell(&mut self.head);
        }
        let why = match read {
            Err(error) if dry_run.depth == Depth::Verified => Some(error.to_string()),
            _ => dry_run.denies(&self.head),
        };
        let Some(why) = why else { return };
        if let Some((label, record)) = self.noted(client_key, frame, None) {
            let line = self.line("dry_run", &record, label, DRY_RUN_DENIED, &why);
            self.telemetry.would_deny(record.operation, line, self.now);
        }
    }
}
