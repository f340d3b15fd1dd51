use core::time::Duration;

use super::status;
use crate::protobuf::{Field, Fields, Value};
use crate::{Depth, Error, Head, Outcome};

const MAGIC: [u8; 4] = *b"PRPC";

/// The longest meta that is read.
const MOST_META: usize = 64 * 1024;

/// Fields of `RpcMeta`.
pub(super) mod field {
    pub(crate) const REQUEST: u32 = 1;
    pub(crate) const RESPONSE: u32 = 2;
    pub(crate) const CORRELATION_ID: u32 = 4;
    pub(crate) const STREAM_SETTINGS: u32 = 8;
    pub(crate) const USER_FIELDS: u32 = 9;
}

/// The field of `RpcRequestMeta` that is text to Apache brpc, `request_id`, and entries to brpc-java, `ext_fields`.
pub(super) const REQUEST_ID: u32 = 7;

/// The field of `RpcRequestMeta` that says how many milliseconds the client waits.
pub(super) const TIMEOUT: u32 = 8;

/// The attributes that are fields of `RpcRequestMeta`, by their number less one.
const FRONT: [&str; 8] =
    ["service", "method", "logId", "traceId", "spanId", "parentSpanId", "requestId", "timeoutMs"];

/// Whether [`Depth::Head`] reports it.
pub(super) fn is_front(name: &str) -> bool {
    FRONT.contains(&name)
}

/// The front of a frame: magic, length of all that follows, and length of the meta.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    body: u32,
    pub(super) meta: usize,
}

impl Header {
    pub(super) const LEN: usize = 12;

    /// Reads the header at the front of `input`; `None` when there are too few bytes for one.
    pub(super) fn parse(input: &[u8]) -> Result<Option<Self>, Error> {
        for (offset, (byte, magic)) in input.iter().zip(MAGIC).enumerate() {
            if *byte != magic {
                return Err(Error::Malformed { what: "magic", offset });
            }
        }
        let Some((&[_, _, _, _, b0, b1, b2, b3, m0, m1, m2, m3], _)) = input.split_first_chunk() else {
            return Ok(None);
        };
        let (body, meta) = (u32::from_be_bytes([b0, b1, b2, b3]), u32::from_be_bytes([m0, m1, m2, m3]));
        if meta > body {
            return Err(Error::Malformed { what: "meta length", offset: 8 });
        }
        Ok(Some(Self { body, meta: usize::try_from(meta).unwrap_or(usize::MAX) }))
    }

    /// The header of a frame.
    pub(super) fn of(frame: &[u8]) -> Result<Self, Error> {
        Self::parse(frame)?.ok_or(Error::Malformed { what: "header", offset: frame.len() })
    }

    /// Appends a header for a body, and a meta at its front, of these lengths.
    pub(super) fn write(body: u32, meta: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&body.to_be_bytes());
        out.extend_from_slice(&meta.to_be_bytes());
    }

    /// Length of the whole frame, if it and the meta are within their limits.
    pub(super) fn checked_len(&self, limit: usize) -> Result<usize, Error> {
        let size = u64::from(self.body).saturating_add(12);
        if self.meta > MOST_META {
            return Err(Error::TooLarge { what: "meta", size: self.meta as u64, limit: MOST_META });
        }
        match usize::try_from(size) {
            Ok(len) if len <= limit => Ok(len),
            _ => Err(Error::TooLarge { what: "frame", size, limit }),
        }
    }

    /// The fields of the meta of `frame`, whose header this is: of what there is of it.
    pub(super) fn meta<'a>(&self, frame: &'a [u8]) -> Fields<'a> {
        Fields::at(self.meta_bytes(frame), Self::LEN)
    }

    pub(super) fn meta_bytes<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let rest = frame.get(Self::LEN..).unwrap_or_default();
        rest.get(..self.meta).unwrap_or(rest)
    }

    /// What follows the meta in `frame`.
    pub(super) fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let end = usize::try_from(self.body).unwrap_or(usize::MAX).saturating_add(Self::LEN);
        let frame = frame.get(..end).unwrap_or(frame);
        frame.get(self.meta.saturating_add(Self::LEN)..).unwrap_or_default()
    }

    /// The length of what follows the meta.
    pub(super) fn payload_len(&self) -> u64 {
        u64::from(self.body).saturating_sub(self.meta as u64)
    }

    /// The correlation id in what there is of `frame`; `None` if it may be in the rest.
    pub(super) fn id(&self, frame: &[u8]) -> Option<u64> {
        let mut id = None;
        for field in self.meta(frame) {
            match field {
                Ok(Field { number: field::CORRELATION_ID, value: Value::Varint(value), .. }) => {
                    id = Some(value)
                }
                Ok(_) => {}
                Err(_) => return id,
            }
        }
        let is_whole = self.meta_bytes(frame).len() == self.meta;
        if is_whole { Some(id.unwrap_or_default()) } else { id }
    }
}

/// What the proxy must know of a frame.
pub(super) struct Meta {
    pub(super) id: u64,
    /// Length of the meta to the end of the id.
    pub(super) front: usize,
    pub(super) is_request: bool,
    pub(super) is_stream: bool,
    /// That of a response.
    pub(super) outcome: Option<Outcome>,
}

impl Meta {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, Error> {
        let mut meta = Self { id: 0, front: 0, is_request: false, is_stream: false, outcome: None };
        let (mut end, mut code) = (0, 0);
        for field in fields {
            let field = field?;
            end = field.offset.saturating_add(field.bytes.len()).saturating_sub(Header::LEN);
            match (field.number, field.value) {
                (field::REQUEST, Value::Bytes(_)) => meta.is_request = true,
                (field::RESPONSE, Value::Bytes(_)) => {
                    for field in field.fields().into_iter().flatten() {
                        let field = field?;
                        if let (1, Value::Varint(value)) = (field.number, field.value) {
                            code = value as u32;
                        }
                    }
                    meta.outcome = Some(outcome(code));
                }
                (field::CORRELATION_ID, Value::Varint(value)) => {
                    meta.id = value;
                    meta.front = end;
                }
                (field::STREAM_SETTINGS, Value::Bytes(_)) => meta.is_stream = true,
                _ => {}
            }
        }
        if meta.front == 0 {
            meta.front = end;
        }
        Ok(meta)
    }
}

/// How long the client of a request waits. What is not over 0 is as long as it takes.
pub(super) fn time(meta: Fields<'_>) -> Option<Duration> {
    let mut time = None;
    for field in meta.flatten().filter(|field| field.number == field::REQUEST) {
        for field in field.fields().into_iter().flatten().flatten() {
            if let (TIMEOUT, Value::Varint(millis)) = (field.number, field.value) {
                time = u64::try_from(millis as i32).ok();
            }
        }
    }
    time.filter(|millis| *millis > 0).map(Duration::from_millis)
}

fn outcome(code: u32) -> Outcome {
    match code {
        0 => Outcome::Success,
        code if status::name(code).is_some() => Outcome::Error(code),
        _ => Outcome::Exception,
    }
}

/// Reads the attributes of a request.
pub(super) fn read_request(meta: Fields<'_>, depth: Depth, head: &mut Head) -> Result<(), Error> {
    let check = Check { is_on: depth == Depth::Verified };
    // The last one counts, wherever it is.
    let mut own: [Option<Field<'_>>; 8] = [None; 8];
    let mut seen = 0;
    for field in meta.clone() {
        let field = field?;
        if field.number != field::REQUEST {
            continue;
        }
        check.once(&mut seen, field)?;
        let mut seen = 0;
        for field in field.fields().into_iter().flatten() {
            let field = field?;
            if is_entry(&field) {
                continue;
            }
            check.once(&mut seen, field)?;
            if field.number == REQUEST_ID && field.value.bytes().is_some_and(may_hold_entry) {
                check.doubt(Some(field))?;
            }
            let place =
                usize::try_from(field.number).ok().and_then(|number| own.get_mut(number.checked_sub(1)?));
            if let Some(place) = place {
                *place = Some(field);
            }
        }
    }
    for (name, field) in FRONT.iter().zip(own) {
        match field.map(|field| field.value) {
            Some(Value::Varint(number)) => head.push_number(name, number.cast_signed()),
            Some(value) => match value.text() {
                Some(text) => head.push(name, text),
                None => check.doubt(field)?,
            },
            None => {}
        }
    }
    let has_doubtful_name = !head.get("service").is_some_and(|service| service.contains('.'))
        || head.get("method").is_none_or(|method| method.contains('.'));
    if check.is_on && has_doubtful_name {
        let what = "request whose service or method is in doubt";
        return Err(Error::Unsupported { what, offset: Header::LEN });
    }
    if depth <= Depth::Head { Ok(()) } else { read_entries(meta, &check, head) }
}

/// Adds the entries of `user_fields`, and after them those of `ext_fields`.
fn read_entries(meta: Fields<'_>, check: &Check, head: &mut Head) -> Result<(), Error> {
    for field in meta.clone().flatten().filter(|field| field.number == field::USER_FIELDS) {
        check.push(field, head)?;
    }
    for field in meta.flatten().filter(|field| field.number == field::REQUEST) {
        for field in field.fields().into_iter().flatten().flatten().filter(is_entry) {
            check.push(field, head)?;
        }
    }
    Ok(())
}

/// Whether a field of `RpcRequestMeta` is one of brpc-java's `ext_fields`: an id is no text that begins with a line break.
pub(super) fn is_entry(field: &Field<'_>) -> bool {
    field.number == REQUEST_ID
        && matches!(field.value, Value::Bytes([b'\n' | 0x12, ..]))
        && field.entry().is_some()
}

/// Whether brpc-java may read an entry in what is not read as one: a tag of either of its fields is no printable letter.
fn may_hold_entry(id: &[u8]) -> bool {
    !id.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Refuses what a server may understand in another way, where that matters.
#[derive(Default)]
struct Check {
    is_on: bool,
}

impl Check {
    /// Notes a field that should be there once; `seen` has a bit for each.
    fn once(&self, seen: &mut u64, field: Field<'_>) -> Result<(), Error> {
        let bit = 1_u64.checked_shl(field.number).unwrap_or_default();
        if *seen & bit != 0 {
            self.doubt(Some(field))?;
        }
        *seen |= bit;
        Ok(())
    }

    fn doubt(&self, field: Option<Field<'_>>) -> Result<(), Error> {
        match self.is_on {
            true => {
                let offset = field.map_or(Header::LEN, |field| field.offset);
                Err(Error::Unsupported { what: "field in doubt", offset })
            }
            false => Ok(()),
        }
    }

    /// Adds an entry to `head`. One that is no text is left out.
    #[inline(never)]
    fn push(&self, field: Field<'_>, head: &mut Head) -> Result<(), Error> {
        let entry = field.entry().and_then(|(key, value)| Some((key, core::str::from_utf8(value).ok()?)));
        match entry {
            Some((key, _)) if self.is_on && head.has_attachment(key) => self.doubt(Some(field)),
            Some((key, value)) => {
                head.push_attachment(key, value);
                if head.has_attachment(key) { Ok(()) } else { self.doubt(Some(field)) }
            }
            None => self.doubt(Some(field)),
        }
    }
}

/// Reads what a response says.
pub(super) fn read_response(meta: Fields<'_>, head: &mut Head) -> Result<(), Error> {
    for field in meta {
        let field = field?;
        match field.number {
            field::RESPONSE => {
                for field in field.fields().into_iter().flatten() {
                    let field = field?;
                    if let (2, Some(text)) = (field.number, field.value.text()) {
                        head.push("error", text);
                    }
                }
            }
            field::USER_FIELDS => Check::default().push(field, head)?,
            _ => {}
        }
    }
    Ok(())
}
