use super::places::{MOST_FIELDS, Numbers, Says};
use super::{FrameKind, Kinds, Layout, Number, Place, Shape, Size};
use crate::protobuf::{self, Fields, Value};
use crate::{Error, Frame, Kind, Outcome, Peer, Step};

/// The most bytes of a varint.
const LONGEST_VARINT: usize = 10;

/// How much a frame may grow by another id that is a varint: the id, and the lengths of the messages that it is in.
const MOST_GROWTH: u64 = 128;

/// How long a frame is.
pub(super) enum Measure<'a> {
    /// So long, with its header at `base`.
    Frame { base: usize, shape: &'a Shape, len: usize },
    /// That many bytes must be there to know.
    NeedMore { at_least: usize },
}

impl Layout {
    /// Finds the frame at the front of `input`.
    #[inline(never)]
    pub(super) fn find(&self, from: Peer, input: &[u8], max_len: usize) -> Result<Step, Error> {
        let (base, shape, len) = match self.measure(input, max_len)? {
            Measure::Frame { base, shape, len } => (base, shape, len),
            Measure::NeedMore { at_least } => return Ok(Step::NeedMore { at_least }),
        };
        match input.get(base..len) {
            Some(frame) => Ok(Step::Frame(self.describe(from, base, shape, len, frame)?)),
            None => Ok(Step::NeedMore { at_least: len }),
        }
    }

    /// Finds where the frame at the front of `input` ends, which may be there in part.
    pub(super) fn measure(&self, input: &[u8], max_len: usize) -> Result<Measure<'_>, Error> {
        if let Some((number, magic)) = self.magic
            && number.read(input) != Some(magic)
            && !begins(number, magic, input)
        {
            return Err(Error::Malformed { what: "magic", offset: number.at() });
        }
        // All places are counted from the end of a length that is a varint.
        let (base, varint) = match self.varint {
            None => (0, None),
            Some((at, plus)) => match varint_base(input, at, plus)? {
                Some((base, size)) => (base, Some(size)),
                None => {
                    let at_least = input.len().saturating_add(1).max(self.shortest());
                    return Ok(Measure::NeedMore { at_least });
                }
            },
        };
        let rest = input.get(base..).unwrap_or_default();
        let Some(shape) = self.shape_of(rest) else {
            return Ok(Measure::NeedMore { at_least: base.saturating_add(self.shortest()) });
        };
        if rest.len() < shape.header {
            return Ok(Measure::NeedMore { at_least: base.saturating_add(shape.header) });
        }
        let size = match (varint, shape.length) {
            (Some(size), _) => size.saturating_add(base as u64),
            (None, Some(length)) => {
                let size = length.number.read(rest).and_then(|value| length.of(value));
                size.ok_or(Error::Malformed { what: "length", offset: length.number.at() })?
            }
            (None, None) => match end_of_parts(shape, rest, max_len) {
                Ok(end) => end,
                Err(at_least) => return Ok(Measure::NeedMore { at_least }),
            },
        };
        if size > max_len as u64 {
            return Err(Error::TooLarge { what: "frame", size, limit: max_len });
        }
        let len = size as usize;
        if len < base.saturating_add(shape.header) || len == 0 {
            return Err(Error::Malformed { what: "length", offset: 0 });
        }
        Ok(Measure::Frame { base, shape, len })
    }

    /// What a frame of `len` bytes is. `frame` is its header, which starts at `base`, and what follows: of what is not read
    /// here, not all may be there.
    #[inline(always)]
    pub(super) fn describe(
        &self,
        from: Peer,
        base: usize,
        shape: &Shape,
        len: usize,
        frame: &[u8],
    ) -> Result<Frame, Error> {
        let mut numbers = Numbers::new(self, shape, frame);
        let id = match &*self.ids {
            [] => 0,
            [Place::Header(number)] => number.read(frame).unwrap_or(0),
            places => self.id_of_several(places, shape, frame, &mut numbers)?,
        };
        let told = match &self.kinds {
            None => None,
            Some(kinds) => kinds.of(numbers.read(Says::Kind, &kinds.place)?.unwrap_or(0)),
        };
        let by_direction = if from == Peer::Client { FrameKind::Request } else { FrameKind::Response };
        let kind = match told.unwrap_or(by_direction) {
            FrameKind::Request => Kind::Request,
            FrameKind::OneWay => Kind::OneWay,
            FrameKind::Response => Kind::Response(self.outcome(&mut numbers)?),
            FrameKind::Heartbeat if self.is_answered(from) => Kind::HeartbeatRequest,
            FrameKind::Heartbeat | FrameKind::HeartbeatReply => Kind::HeartbeatResponse,
            FrameKind::Drain => Kind::Drain,
            FrameKind::Event => Kind::Event,
        };
        // To answer a request, its id is enough.
        let kept = match self.ids.first() {
            None => 0,
            Some(Place::Header(number)) => number.end(),
            Some(Place::Protobuf { part, .. }) => {
                let found = shape.part(*part, frame);
                found.map_or(frame.len(), |(part, start)| start.saturating_add(part.len()))
            }
        };
        Ok(Frame { len, head: base.saturating_add(kept).min(len), kind, id })
    }

    /// The id of a frame that has it in a part, or in several places. All are rewritten later, and must be readable for that.
    #[inline(never)]
    fn id_of_several(
        &self,
        places: &[Place],
        shape: &Shape,
        frame: &[u8],
        numbers: &mut Numbers<'_>,
    ) -> Result<u64, Error> {
        self.leave_room(shape, frame)?;
        let first = places.iter().position(|place| matches!(place, Place::Protobuf { .. }));
        let mut id = 0;
        for (at, place) in places.iter().enumerate().rev() {
            let read = match Some(at) == first {
                true => numbers.read(Says::Id, place)?,
                false => Numbers::alone(place, shape, frame)?,
            };
            id = read.unwrap_or(0);
        }
        Ok(id)
    }

    /// Bytes of a header that tell which shape a frame has, whichever it is.
    fn shortest(&self) -> usize {
        self.response.as_ref().map_or(self.shape.header, |response| response.header.min(self.shape.header))
    }

    /// A frame without what comes before its header: a length that is a varint. How long that is comes with it.
    #[inline(always)]
    pub(super) fn header<'a>(&self, frame: &'a [u8]) -> (&'a [u8], usize) {
        let base = match self.varint {
            None => 0,
            Some((at, plus)) => varint_base(frame, at, plus).ok().flatten().map_or(0, |(base, _)| base),
        };
        (frame.get(base..).unwrap_or_default(), base)
    }

    /// The shape of a frame; `None` if that is not known yet.
    #[inline(always)]
    pub(super) fn shape_of(&self, frame: &[u8]) -> Option<&Shape> {
        match &self.response {
            None => Some(&self.shape),
            Some(response) => self.shape_by_kind(response, frame),
        }
    }

    #[inline(never)]
    fn shape_by_kind<'a>(&'a self, response: &'a Shape, frame: &[u8]) -> Option<&'a Shape> {
        if frame.len() < self.shortest() {
            return None;
        }
        let Some(Kinds { place: Place::Header(number), .. }) = &self.kinds else { return Some(&self.shape) };
        let value = number.read(frame).unwrap_or(0);
        match self.kinds.as_ref().and_then(|kinds| kinds.of(value)) {
            Some(FrameKind::Response | FrameKind::HeartbeatReply) => Some(response),
            _ => Some(&self.shape),
        }
    }

    /// What a frame is, if it says so.
    #[cfg(feature = "inspect")]
    pub(super) fn kind_told(&self, shape: &Shape, frame: &[u8]) -> Result<Option<FrameKind>, Error> {
        match &self.kinds {
            None => Ok(None),
            Some(kinds) => Ok(kinds.of(Numbers::alone(&kinds.place, shape, frame)?.unwrap_or(0))),
        }
    }

    /// Whether a heartbeat wants an answer.
    fn is_answered(&self, from: Peer) -> bool {
        let has_replies = self.kinds.as_ref().is_some_and(|kinds| kinds.has(FrameKind::HeartbeatReply));
        !self.heartbeat_reply.is_empty() && (from == Peer::Client || has_replies)
    }

    #[inline(always)]
    fn outcome(&self, numbers: &mut Numbers<'_>) -> Result<Outcome, Error> {
        if let Some(place) = &self.statuses.place {
            let status = numbers.read(Says::Status, place)?.unwrap_or(0);
            if !self.statuses.success.contains(&status) {
                return Ok(match self.statuses.exceptions.contains(&status) {
                    true => Outcome::Exception,
                    false => Outcome::Error(u32::try_from(status).unwrap_or(u32::MAX)),
                });
            }
        }
        if let Some(place) = &self.statuses.service
            && numbers.read(Says::Service, place)?.unwrap_or(0) != 0
        {
            return Ok(Outcome::Exception);
        }
        Ok(Outcome::Success)
    }

    /// Refuses a frame whose lengths could not say that another id is longer.
    fn leave_room(&self, shape: &Shape, frame: &[u8]) -> Result<(), Error> {
        let Some(Place::Protobuf { part, .. }) =
            self.ids.iter().find(|id| matches!(id, Place::Protobuf { .. }))
        else {
            return Ok(());
        };
        let of_part = shape.parts.get(*part).and_then(|part| match part.size {
            Size::Header(length) => Some(length),
            _ => None,
        });
        for length in [shape.length, of_part].into_iter().flatten() {
            let value = length.number.read(frame).unwrap_or(0);
            if value > length.number.max().saturating_sub(MOST_GROWTH) {
                let offset = length.number.at();
                return Err(Error::Unsupported { what: "length without room for another id", offset });
            }
        }
        Ok(())
    }

    /// The id of a request of which at least what is kept is there.
    pub(super) fn id(&self, request: &[u8]) -> u64 {
        let (frame, _) = self.header(request);
        match self.ids.first() {
            None => 0,
            Some(Place::Header(number)) => number.read(frame).unwrap_or(0),
            Some(place) => {
                let shape = self.shape_of(frame).unwrap_or(&self.shape);
                Numbers::alone(place, shape, frame).ok().flatten().unwrap_or(0)
            }
        }
    }
}

/// Where the last part ends, or how many bytes must be there to know.
#[inline(never)]
fn end_of_parts(shape: &Shape, frame: &[u8], max_len: usize) -> Result<u64, usize> {
    let mut end = shape.header;
    for part in &shape.parts {
        match part.range(frame, end) {
            Some(range) if range.end <= max_len => end = range.end,
            Some(range) => return Ok(range.end as u64),
            None => {
                // A prefix that is not there yet, or never ends.
                let there = frame.len().saturating_sub(end);
                let Size::Prefix(coding) = part.size else { return Ok(u64::MAX) };
                if there >= LONGEST_VARINT {
                    return Ok(u64::MAX);
                }
                return Err(end.saturating_add(there.saturating_add(1).max(coding.least_width())));
            }
        }
    }
    Ok(end as u64)
}

impl Kinds {
    /// Whether some value means that a frame is of this kind.
    pub fn has(&self, kind: FrameKind) -> bool {
        self.values.iter().any(|(_, known)| *known == kind)
    }

    /// What a value means.
    #[inline(always)]
    pub(super) fn of(&self, value: u64) -> Option<FrameKind> {
        let value = value & self.mask;
        let known = self.values.iter().find(|(known, _)| *known == value);
        known.map(|(_, kind)| *kind).or(self.otherwise)
    }
}

/// The end of a length that is a varint, and what it says; `None` if that is not there yet.
pub(super) fn varint_base(input: &[u8], at: usize, plus: i64) -> Result<Option<(usize, u64)>, Error> {
    let rest = input.get(at..).unwrap_or_default();
    match protobuf::read_varint(rest) {
        Some((value, after)) => {
            let size = value.checked_add_signed(plus);
            let size = size.ok_or(Error::Malformed { what: "length", offset: at })?;
            Ok(Some((input.len().saturating_sub(after.len()), size)))
        }
        None if rest.len() >= LONGEST_VARINT => Err(Error::Malformed { what: "length", offset: at }),
        None => Ok(None),
    }
}

/// Whether an input that ends inside the magic, or before it, may go on as it should.
#[cold]
fn begins(number: Number, magic: u64, input: &[u8]) -> bool {
    let mut bytes = Vec::new();
    number.coding().write(magic, &mut bytes);
    input.get(number.at()..).is_none_or(|seen| seen.len() < bytes.len() && bytes.starts_with(seen))
}

/// The value at a path in a message; of several, the last one. With `once`, several are an error.
pub(super) fn field<'a>(
    message: &'a [u8],
    path: &[u32],
    offset: usize,
    once: bool,
) -> Result<Option<Value<'a>>, Error> {
    let Some((number, deeper)) = path.split_first() else { return Ok(None) };
    let mut last: Option<protobuf::Field<'a>> = None;
    for (count, found) in Fields::at(message, offset).enumerate() {
        let found = found?;
        if count >= MOST_FIELDS {
            return Err(Error::Unsupported { what: "number of fields", offset: found.offset });
        }
        if found.number == *number && (deeper.is_empty() || found.value.bytes().is_some()) {
            if once && last.is_some() {
                return Err(Error::Malformed { what: "repeated field", offset: found.offset });
            }
            last = Some(found);
        }
    }
    let Some(last) = last else { return Ok(None) };
    match last.value {
        value if deeper.is_empty() => Ok(Some(value)),
        Value::Bytes(inner) => {
            let end = last.offset.saturating_add(last.bytes.len());
            field(inner, deeper, end.saturating_sub(inner.len()), once)
        }
        _ => Ok(None),
    }
}
