use super::Coding;

/// The longest text that a reply says, in bytes.
pub(super) const LONGEST_TEXT: usize = 1000;

/// A part of a frame that the proxy makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The request's id.
    Id(Coding),
    /// The status.
    Status(Coding),
    /// What happened, as text.
    Text,
    /// How many bytes the whole frame has, and what is to be added.
    Frame(Coding, i64),
    /// How many bytes follow, and what is to be added.
    Rest(Coding, i64),
    /// Pieces after their length, which is a varint.
    Group(Vec<Piece>),
}

/// What a frame says that the proxy makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub id: u64,
    pub status: u64,
    pub text: &'a str,
}

/// Appends a frame.
pub(super) fn render(pieces: &[Piece], said: Said<'_>, out: &mut Vec<u8>) {
    let mut end = LONGEST_TEXT.min(said.text.len());
    while !said.text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let said = Said { text: said.text.get(..end).unwrap_or_default(), ..said };
    // The length is known when all is written once; it has the same width whatever it is.
    let mut frame = Vec::new();
    append(pieces, said, 0, &mut frame);
    append(pieces, said, frame.len(), out);
}

fn append(pieces: &[Piece], said: Said<'_>, frame: usize, out: &mut Vec<u8>) {
    for (place, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Bytes(bytes) => out.extend_from_slice(bytes),
            Piece::Id(coding) => coding.write(said.id, out),
            Piece::Status(coding) => coding.write(said.status, out),
            Piece::Text => out.extend_from_slice(said.text.as_bytes()),
            Piece::Frame(coding, plus) => coding.write((frame as u64).saturating_add_signed(*plus), out),
            Piece::Rest(coding, plus) => {
                let mut rest = Vec::new();
                append(pieces.get(place.saturating_add(1)..).unwrap_or_default(), said, frame, &mut rest);
                coding.write((rest.len() as u64).saturating_add_signed(*plus), out);
                out.append(&mut rest);
                return;
            }
            Piece::Group(inner) => {
                let mut bytes = Vec::new();
                append(inner, said, frame, &mut bytes);
                Coding::Varint.write(bytes.len() as u64, out);
                out.append(&mut bytes);
            }
        }
    }
}
