use super::{Layout, Place, Shape, Size};
use crate::{Error, protobuf};

impl Layout {
    /// Appends `frame` with another request id in all its places.
    #[inline(always)]
    pub(super) fn set_id(&self, frame: &[u8], id: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        // What most layouts have.
        if let ([Place::Header(number)], None) = (&*self.ids, self.varint) {
            out.extend_from_slice(frame);
            number.write(id, out.get_mut(start..).unwrap_or_default());
            return Ok(());
        }
        self.set_ids(frame, id, out)
    }

    #[inline(never)]
    fn set_ids(&self, frame: &[u8], id: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        if self.ids.iter().any(|place| matches!(place, Place::Protobuf { .. })) {
            self.set_deep(frame, id, out)?;
        } else {
            out.extend_from_slice(frame);
        }
        let written = out.get_mut(start..).unwrap_or_default();
        let (_, base) = self.header(written);
        let header = written.get_mut(base..).unwrap_or_default();
        for place in &self.ids {
            if let Place::Header(number) = place {
                number.write(id, header);
            }
        }
        Ok(())
    }

    /// Appends `frame` with another id in a part that holds protobuf, and with the lengths that this changes.
    fn set_deep(&self, frame: &[u8], id: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        let (header, base) = self.header(frame);
        let Some(shape) = self.shape_of(header) else { return Ok(()) };
        let mut message = Vec::new();
        let mut changed = None;
        for place in &self.ids {
            let Place::Protobuf { part, path } = place else { continue };
            let (old, at) = shape.part(*part, header)?;
            let mut new = Vec::with_capacity(old.len().saturating_add(16));
            protobuf::set_number(if changed.is_some() { &message } else { old }, path, id, &mut new)?;
            message = new;
            changed = Some((*part, at, old.len()));
        }
        let Some((part, at, old)) = changed else { return Ok(()) };
        let len = header.len().saturating_sub(old).saturating_add(message.len());
        match self.varint {
            Some((at, plus)) => {
                out.extend_from_slice(frame.get(..at).unwrap_or_default());
                let said = i64::try_from(len).unwrap_or(i64::MAX).saturating_sub(plus);
                protobuf::write_varint(said.try_into().unwrap_or(0), out);
            }
            None => out.extend_from_slice(frame.get(..base).unwrap_or_default()),
        }
        let start = out.len();
        out.extend_from_slice(header.get(..at).unwrap_or_default());
        out.extend_from_slice(&message);
        out.extend_from_slice(header.get(at.saturating_add(old)..).unwrap_or_default());
        set_lengths(shape, part, message.len(), out.get_mut(start..).unwrap_or_default());
        Ok(())
    }
}

/// Writes what the header says of the frame's length and that of a part.
fn set_lengths(shape: &Shape, part: usize, part_len: usize, frame: &mut [u8]) {
    let len = frame.len();
    if let Some(length) = shape.length {
        length.number.write(length.number_for(len), frame);
    }
    if let Some(Size::Header(length)) = shape.parts.get(part).map(|part| part.size) {
        length.number.write(length.number_for(part_len), frame);
    }
}
