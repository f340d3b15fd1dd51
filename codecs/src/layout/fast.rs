use super::{FrameKind, Layout, Number, Place};
use crate::{Frame, Kind, Outcome, Peer, Step};

/// The most values that say what a frame is.
const MOST_KINDS: u64 = 256;

/// What it takes to find the calls and answers of a layout that has all of it at fixed places of one header. Frames that are
/// anything else, or wrong, or shorter than the numbers are read at once, are left to the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fast {
    magic: Option<(Number, u64)>,
    length: Number,
    plus: i64,
    header: usize,
    id: Option<Number>,
    kind: Option<(Number, u64)>,
    /// What each value means; no others do.
    kinds: Vec<Option<FrameKind>>,
    otherwise: Option<FrameKind>,
    status: Option<(Number, u64)>,
    /// Where what an answer needs of a request ends.
    kept: usize,
}

impl Layout {
    /// The layout, with what makes it fast.
    pub fn compiled(mut self) -> Self {
        self.fast = self.compile();
        self
    }

    fn compile(&self) -> Option<Fast> {
        let (None, None, Some(length), None) =
            (&self.varint, &self.response, self.shape.length, &self.statuses.service)
        else {
            return None;
        };
        let header = |place: &Place| match place {
            Place::Header(number) => Some(*number),
            Place::Protobuf { .. } => None,
        };
        let id = match &*self.ids {
            [] => None,
            [place] => Some(header(place)?),
            _ => return None,
        };
        let mut kinds = Vec::new();
        let mut kind = None;
        if let Some(known) = &self.kinds {
            kind = Some((header(&known.place)?, known.mask));
            let most =
                known.values.iter().map(|(value, _)| *value).max().filter(|most| *most < MOST_KINDS)?;
            kinds = (0..=most).map(|value| known.of(value)).collect();
        }
        let status = match &self.statuses.place {
            None => None,
            Some(place) => Some((header(place)?, *self.statuses.success.first()?)),
        };
        Some(Fast {
            magic: self.magic,
            length: length.number,
            plus: length.plus,
            header: self.shape.header,
            id,
            kind,
            kinds,
            otherwise: self.kinds.as_ref().and_then(|known| known.otherwise),
            status,
            kept: id.map_or(0, Number::end),
        })
    }
}

impl Fast {
    /// The call or the answer at the front of `input`.
    #[inline(always)]
    pub(super) fn split(&self, from: Peer, input: &[u8], max_len: usize) -> Option<Step> {
        if let Some((number, magic)) = self.magic
            && number.read_at_once(input)? != magic
        {
            return None;
        }
        let size = self.length.read_at_once(input)?.checked_add_signed(self.plus)?;
        let len = usize::try_from(size).ok()?;
        if len > input.len() || len > max_len || len < self.header || len == 0 {
            return None;
        }
        let frame = input.get(..len)?;
        let id = match self.id {
            Some(number) => number.read_at_once(frame)?,
            None => 0,
        };
        let told = match self.kind {
            None => None,
            Some((number, mask)) => {
                let value = number.read_at_once(frame)? & mask;
                usize::try_from(value)
                    .ok()
                    .and_then(|value| self.kinds.get(value))
                    .copied()
                    .unwrap_or(self.otherwise)
            }
        };
        let kind = match (told, from) {
            (Some(FrameKind::Request), _) | (None, Peer::Client) => Kind::Request,
            (Some(FrameKind::OneWay), _) => Kind::OneWay,
            (Some(FrameKind::Response), _) | (None, Peer::Server) => match self.status {
                Some((number, success)) if number.read_at_once(frame)? != success => return None,
                _ => Kind::Response(Outcome::Success),
            },
            _ => return None,
        };
        Some(Step::Frame(Frame { len, head: self.kept.min(len), kind, id }))
    }
}
