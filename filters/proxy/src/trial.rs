//! Authorization that is tried out: who it would deny is counted and logged, and nothing else comes of it.

use meltemi_codecs::{Depth, Frame};

use crate::client::ClientId;
use crate::telemetry::{DRY_RUN_DENIED, LocalReply, OperationId};
use crate::worker::Worker;

impl Worker {
    /// What is to be counted and logged of a request that would be denied, but for its trace. It is read for that alone:
    /// what is tried out changes nothing.
    #[inline(never)]
    pub(crate) fn try_out(
        &mut self,
        client_key: ClientId,
        bytes: &[u8],
        frame: Frame,
    ) -> Option<Box<(OperationId, LocalReply)>> {
        let client = self.clients.get(client_key)?;
        let service = client.service().clone();
        let dry_run = service.dry_run.as_ref()?;
        let read = service.codec.head(bytes, dry_run.depth, &mut self.head);
        if dry_run.asks_source {
            client.source().tell(&mut self.head);
        }
        let why = match read {
            Err(error) if dry_run.depth == Depth::Verified => Some(error.to_string()),
            _ => dry_run.denies(&self.head),
        };
        let why = why?;
        let (label, record) = self.noted(client_key, frame, None)?;
        let line = self.line("dry_run", &record, label, DRY_RUN_DENIED, &why);
        Some(Box::new((record.operation, line)))
    }
}
