use super::{Layout, Place, Size, split::varint_base};
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
        let grown = |len: u64| len.saturating_sub(old as u64).saturating_add(message.len() as u64);
        match self.varint {
            Some((at, plus)) => {
                out.extend_from_slice(frame.get(..at).unwrap_or_default());
                let (_, len) = varint_base(frame, at, plus)?.unwrap_or_default();
                let said = i64::try_from(grown(len)).unwrap_or(i64::MAX).saturating_sub(plus);
                protobuf::write_varint(said.try_into().unwrap_or(0), out);
            }
            None => out.extend_from_slice(frame.get(..base).unwrap_or_default()),
        }
        let start = out.len();
        out.extend_from_slice(header.get(..at).unwrap_or_default());
        out.extend_from_slice(&message);
        out.extend_from_slice(header.get(at.saturating_add(old)..).unwrap_or_default());
        // What the header says of the frame's length and that of the part. The frame may be there in part.
        let header = out.get_mut(start..).unwrap_or_default();
        if let Some(length) = shape.length {
            let len = length.number.read(header).and_then(|value| length.of(value)).unwrap_or_default();
            let len = usize::try_from(grown(len)).unwrap_or(usize::MAX);
            length.number.write(length.number_for(len), header);
        }
        if let Some(Size::Header(length)) = shape.parts.get(part).map(|part| part.size) {
            length.number.write(length.number_for(message.len()), header);
        }
        Ok(())
    }
}
