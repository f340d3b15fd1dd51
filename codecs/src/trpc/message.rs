use core::time::Duration;

use super::header::{Header, Type};
use crate::protobuf::{Field, Fields, Value};
use crate::{Depth, Error, Head, Kind, Outcome, Peer};

/// Fields of `RequestProtocol`, some of which are in `ResponseProtocol`. Those of a stream's `TrpcStreamInitRequestMeta`
/// are the same less [`STREAM`].
pub(super) mod field {
    pub(crate) const CALL_TYPE: u32 = 2;
    pub(crate) const REQUEST_ID: u32 = 3;
    pub(crate) const TIMEOUT: u32 = 4;
    pub(crate) const FUNC: u32 = 7;
    pub(crate) const MESSAGE_TYPE: u32 = 8;
    pub(crate) const TRANS_INFO: u32 = 9;
    pub(crate) const STREAM: u32 = 4;
    /// The entries of a response.
    pub(crate) const RESPONSE_TRANS_INFO: u32 = 8;
    /// The message of a request in `TrpcStreamInitMeta`.
    pub(crate) const REQUEST_META: u32 = 1;
    /// What its server answers.
    pub(crate) const RESPONSE_META: u32 = 2;
    /// The way of closing that ends both sides.
    pub(crate) const RESET: u32 = 1;
}

/// The attributes that [`Depth::Head`] reports.
pub(super) const FRONT: [&str; 9] =
    ["caller", "callee", "func", "service", "method", "callType", "messageType", "dyeing", "timeout"];

/// The call type of a request that is not answered.
const ONE_WAY: u32 = 1;

/// Why a request is not carried.
const NO_FUNC: &str = "the request names no func";

/// The bit of dyed messages.
const DYEING: u64 = 1;

/// What a frame is, its id, and how much of its message an answer needs.
pub(super) fn kind(header: &Header, from: Peer, frame: &[u8]) -> Result<(Kind, u64, usize), Error> {
    if header.kind != Type::Unary {
        return Ok((stream_kind(header, from, frame)?, header.id.into(), 0));
    }
    let (message, _) = header.parts(frame);
    let (mut id, mut front, mut end) = (0, 0, 0);
    let mut is_one_way = false;
    let mut has_func = false;
    let mut ended = Ended::default();
    for field in Fields::at(message, Header::LEN) {
        let field = field?;
        end = field.offset.saturating_add(field.bytes.len()).saturating_sub(Header::LEN);
        match (field.number, field.value) {
            (field::REQUEST_ID, Value::Varint(value)) => {
                id = value as u32;
                front = end;
            }
            (field::CALL_TYPE, Value::Varint(value)) => is_one_way = value as u32 == ONE_WAY,
            (field::FUNC, Value::Bytes(_)) => has_func = true,
            (4, Value::Varint(value)) => ended.ret = value as u32,
            (5, Value::Varint(value)) => ended.func_ret = value as u32,
            _ => {}
        }
    }
    let kind = match from {
        Peer::Server => return Ok((Kind::Response(ended.outcome()), id.into(), 0)),
        // By this a request is told from a response.
        Peer::Client if !has_func => Kind::Refused(NO_FUNC),
        Peer::Client if is_one_way => Kind::OneWay,
        Peer::Client => Kind::Request,
    };
    Ok((kind, both_ids(header.id, id), if front == 0 { end } else { front }))
}

/// What a stream's frame is.
fn stream_kind(header: &Header, from: Peer, frame: &[u8]) -> Result<Kind, Error> {
    if matches!(header.kind, Type::Data | Type::Feedback) {
        return Ok(Kind::Continued);
    }
    let (message, _) = header.parts(frame);
    let mut has_request = false;
    let mut is_reset = false;
    let mut ended = Ended::default();
    for field in Fields::at(message, Header::LEN) {
        let field = field?;
        match (header.kind, field.number, field.value) {
            (Type::Init, field::REQUEST_META, Value::Bytes(_)) => has_request = true,
            (Type::Init, field::RESPONSE_META, _) => {
                for field in field.fields().into_iter().flatten() {
                    if let Field { number: 1, value: Value::Varint(value), .. } = field? {
                        ended.ret = value as u32;
                    }
                }
            }
            (Type::Close, 1, Value::Varint(value)) => is_reset = value as u32 == field::RESET,
            (Type::Close, 2, Value::Varint(value)) => ended.ret = value as u32,
            (Type::Close, 6, Value::Varint(value)) => ended.func_ret = value as u32,
            _ => {}
        }
    }
    Ok(match (header.kind, ended.outcome()) {
        (Type::Init, _) if from == Peer::Client && has_request => Kind::Opened,
        (Type::Init, _) if from == Peer::Client => Kind::Refused(NO_FUNC),
        // That of a service's own error.
        (Type::Close, Outcome::Success) if is_reset => Kind::Reset(Outcome::Exception),
        (Type::Close, outcome) if is_reset => Kind::Reset(outcome),
        (_, outcome @ Outcome::Error(_)) => Kind::Reset(outcome),
        (Type::Close, outcome) => Kind::Ended(outcome),
        _ => Kind::Continued,
    })
}

/// The id of a request that has two: in the header, and in the message. Mostly they are one.
fn both_ids(header: u32, message: u32) -> u64 {
    u64::from(header ^ message) << 32 | u64::from(message)
}

/// The ids in header and message.
pub(super) fn ids(id: u64) -> (u32, u32) {
    ((id >> 32) as u32 ^ id as u32, id as u32)
}

/// The id of a request in what there is of `frame`; `None` if it may be in the rest.
pub(super) fn id(header: &Header, frame: &[u8]) -> Option<u64> {
    let (message, _) = header.parts(frame);
    let mut id = None;
    let mut is_whole = message.len() == usize::from(header.message);
    for field in Fields::new(message) {
        match field {
            Ok(Field { number: field::REQUEST_ID, value: Value::Varint(value), .. }) => {
                id = Some(value as u32)
            }
            Ok(_) => {}
            Err(_) => is_whole = false,
        }
    }
    Some(both_ids(header.id, id.or(is_whole.then_some(0))?))
}

/// How long the client of a unary request waits. 0 is as long as it takes.
pub(super) fn time(header: &Header, frame: &[u8]) -> Option<Duration> {
    if header.kind != Type::Unary {
        return None;
    }
    let mut time = None;
    for field in Fields::new(header.parts(frame).0).flatten() {
        if let (field::TIMEOUT, Value::Varint(millis)) = (field.number, field.value) {
            time = Some(u64::from(millis as u32));
        }
    }
    time.filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// How a call ended: by the framework's code, and by the service's own.
#[derive(Default)]
struct Ended {
    ret: u32,
    func_ret: u32,
}

impl Ended {
    fn outcome(&self) -> Outcome {
        match (self.ret, self.func_ret) {
            (0, 0) => Outcome::Success,
            (0, _) => Outcome::Exception,
            (ret, _) => Outcome::Error(ret),
        }
    }
}

/// Reads the attributes of a request, unary or one that opens a stream.
pub(super) fn read_request(
    header: &Header,
    frame: &[u8],
    depth: Depth,
    head: &mut Head,
) -> Result<(), Error> {
    let mut reader = Reader { is_strict: depth == Depth::Verified, ..Reader::default() };
    let fields = Fields::at(header.parts(frame).0, Header::LEN);
    match header.kind {
        Type::Unary => reader.read(fields, 0)?,
        _ => {
            let mut seen = 0;
            for field in fields {
                let field = field?;
                if let (field::REQUEST_META, Some(fields)) = (field.number, field.fields()) {
                    reader.once(&mut seen, &field)?;
                    reader.read(fields, field::STREAM)?;
                }
            }
        }
    }
    reader.tell(header, head)?;
    if depth <= Depth::Head { Ok(()) } else { reader.tell_entries(header, frame, head) }
}

/// The fields of a request, and whether it matters what a server may understand in another way.
#[derive(Default)]
struct Reader<'a> {
    is_strict: bool,
    names: [Option<Field<'a>>; 3],
    call_type: u32,
    message_type: Option<u64>,
    timeout: Option<u64>,
}

impl<'a> Reader<'a> {
    /// Reads fields whose numbers are less than those of a unary request by `shift`. The last one of a number counts.
    #[inline(never)]
    fn read(&mut self, fields: Fields<'a>, shift: u32) -> Result<(), Error> {
        let mut seen = 0;
        for field in fields {
            let field = field?;
            let number = field.number.saturating_add(shift);
            if number != field::TRANS_INFO {
                self.once(&mut seen, &field)?;
            }
            match (number, field.value) {
                (5..=7, Value::Bytes(_)) => {
                    let place = usize::try_from(number.saturating_sub(5)).ok();
                    if let Some(place) = place.and_then(|place| self.names.get_mut(place)) {
                        *place = Some(field);
                    }
                }
                (field::MESSAGE_TYPE, Value::Varint(value)) => self.message_type = Some(value),
                (field::CALL_TYPE, Value::Varint(value)) => self.call_type = value as u32,
                (field::TIMEOUT, Value::Varint(value)) => self.timeout = Some(value),
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes a field that should be there once; `seen` has a bit for each.
    fn once(&self, seen: &mut u64, field: &Field<'_>) -> Result<(), Error> {
        let bit = 1_u64.checked_shl(field.number).unwrap_or_default();
        if *seen & bit != 0 {
            self.doubt(field.offset)?;
        }
        *seen |= bit;
        Ok(())
    }

    fn doubt(&self, offset: usize) -> Result<(), Error> {
        match self.is_strict {
            true => Err(Error::Unsupported { what: "field in doubt", offset }),
            false => Ok(()),
        }
    }

    /// Adds the attributes.
    #[inline(never)]
    fn tell(&self, header: &Header, head: &mut Head) -> Result<(), Error> {
        for (name, field) in FRONT.iter().zip(self.names) {
            let Some(field) = field else { continue };
            let Some(text) = field.value.text() else {
                self.doubt(field.offset)?;
                continue;
            };
            head.push(name, text);
            if *name == "func" {
                let (service, method) = text.rsplit_once('/').unwrap_or(("", text));
                let service = service.strip_prefix('/').unwrap_or(service);
                if !service.is_empty() {
                    head.push("service", service);
                }
                head.push("method", method);
            }
        }
        if self.is_strict && head.get("func").is_none() {
            self.doubt(Header::LEN)?;
        }
        let call_type = match (header.kind, self.call_type) {
            (Type::Unary, ONE_WAY) => "oneway",
            (Type::Unary, _) => "unary",
            _ => "stream",
        };
        head.push("callType", call_type);
        if let Some(message_type) = self.message_type {
            head.push_number("messageType", i64::from(message_type as u32));
            if message_type & DYEING != 0 {
                head.push("dyeing", "true");
            }
        }
        if let Some(timeout) = self.timeout {
            head.push_number("timeout", i64::from(timeout as u32));
        }
        Ok(())
    }

    /// Adds the entries of `trans_info`.
    fn tell_entries(&self, header: &Header, frame: &[u8], head: &mut Head) -> Result<(), Error> {
        let fields = Fields::at(header.parts(frame).0, Header::LEN);
        if header.kind == Type::Unary {
            return self.push(fields, field::TRANS_INFO, head);
        }
        for meta in fields.flatten() {
            if let (field::REQUEST_META, Some(fields)) = (meta.number, meta.fields()) {
                self.push(fields, field::TRANS_INFO.saturating_sub(field::STREAM), head)?;
            }
        }
        Ok(())
    }

    /// Adds those of `fields` that are entries with this number. What is no text is left out, as are entries that are called
    /// like attributes: they would pass for those that the request does not have.
    #[inline(never)]
    fn push(&self, fields: Fields<'a>, number: u32, head: &mut Head) -> Result<(), Error> {
        for field in fields.flatten() {
            if field.number != number {
                continue;
            }
            match field.entry() {
                Some((key, _)) if self.is_strict && head.has_attachment(key) => self.doubt(field.offset)?,
                Some((key, _)) if FRONT.contains(&key) => {}
                Some((key, value)) => {
                    if let Ok(value) = core::str::from_utf8(value) {
                        head.push_attachment(key, value);
                    }
                    if self.is_strict && !head.has_attachment(key) {
                        self.doubt(field.offset)?;
                    }
                }
                None => self.doubt(field.offset)?,
            }
        }
        Ok(())
    }
}

/// Reads what a response says.
pub(super) fn read_response(header: &Header, frame: &[u8], head: &mut Head) -> Result<(), Error> {
    if header.kind != Type::Unary {
        return Ok(());
    }
    let fields = Fields::at(header.parts(frame).0, Header::LEN);
    for field in fields.clone() {
        let field = field?;
        match (field.number, field.value) {
            (5, Value::Varint(code)) => head.push_number("funcRet", i64::from(code as i32)),
            (6, value) => head.push("error", value.text().unwrap_or_default()),
            _ => {}
        }
    }
    Reader::default().push(fields, field::RESPONSE_TRANS_INFO, head)
}
