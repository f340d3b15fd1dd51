use crate::{Error, Kind};

/// The first two bytes of every frame.
pub const MAGIC: [u8; 2] = [0xda, 0xbb];
/// The flag of a request; without it the frame is a response.
pub const REQUEST: u8 = 0x80;
/// The flag of a request that is answered.
pub const TWO_WAY: u8 = 0x40;
/// The flag of an event: a heartbeat, or word about the connection.
pub const EVENT: u8 = 0x20;

const SERIALIZATION: u8 = 0x1f;

/// Hessian 2, the serialization that every Dubbo implementation has.
pub const HESSIAN2: u8 = 2;
/// Alibaba's fastjson2 in its binary form.
pub const FASTJSON2: u8 = 23;

/// The header of a Dubbo 2 frame: magic, flags, status, request id and body length, big-endian, 16 bytes.
///
/// Follows the [Dubbo 2 protocol specification](https://dubbo.apache.org/en/overview/reference/protocols/tcp/).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// [`REQUEST`], [`TWO_WAY`], [`EVENT`], and the serialization in the low five bits.
    pub flags: u8,
    /// The status of a response; 0 in requests.
    pub status: u8,
    /// The request id. Every value is valid, 0 too.
    pub id: u64,
    /// Length of the body in bytes.
    pub length: u32,
}

impl Header {
    /// The length of a header in bytes.
    pub const LEN: usize = 16;

    /// Reads the header at the front of `input`; `None` when there are too few bytes for one.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the magic is another, as soon as that shows, or when the length is negative.
    pub fn parse(input: &[u8]) -> Result<Option<Self>, Error> {
        for (offset, (byte, magic)) in input.iter().zip(MAGIC).enumerate() {
            if *byte != magic {
                return Err(Error::Malformed { what: "magic", offset });
            }
        }
        let Some((header, _)) = input.split_first_chunk::<{ Self::LEN }>() else {
            return Ok(None);
        };
        let &[_, _, flags, status, i0, i1, i2, i3, i4, i5, i6, i7, l0, l1, l2, l3] = header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length > i32::MAX.cast_unsigned() {
            return Err(Error::Malformed { what: "body length", offset: 12 });
        }
        Ok(Some(Self { flags, status, id: u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]), length }))
    }

    /// Appends the header.
    pub fn write(&self, out: &mut Vec<u8>) {
        let [m0, m1] = MAGIC;
        let [i0, i1, i2, i3, i4, i5, i6, i7] = self.id.to_be_bytes();
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        out.extend_from_slice(&[
            m0,
            m1,
            self.flags,
            self.status,
            i0,
            i1,
            i2,
            i3,
            i4,
            i5,
            i6,
            i7,
            l0,
            l1,
            l2,
            l3,
        ]);
    }

    /// Length of the whole frame in bytes.
    pub fn frame_len(&self) -> u64 {
        u64::from(self.length).saturating_add(16)
    }

    /// The id of the serialization in which the body is written.
    pub fn serialization(&self) -> u8 {
        self.flags & SERIALIZATION
    }

    /// Whether the frame is a request, event or not.
    pub fn is_request(&self) -> bool {
        self.flags & REQUEST != 0
    }

    /// Whether the frame is a request that is answered.
    pub fn is_two_way(&self) -> bool {
        self.flags & TWO_WAY != 0
    }

    /// Whether the frame is an event.
    pub fn is_event(&self) -> bool {
        self.flags & EVENT != 0
    }

    /// What a request is that is no event.
    pub(super) fn call(&self) -> Kind {
        if self.is_two_way() { Kind::Request } else { Kind::OneWay }
    }

    /// The body of `frame`, whose header this is: what there is of it.
    pub(super) fn body<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        let body = frame.get(Self::LEN..).unwrap_or_default();
        body.get(..length).unwrap_or(body)
    }
}

/// Dubbo's own name of a serialization id, such as `hessian2`.
pub fn serialization_name(id: u8) -> Option<&'static str> {
    Some(match id {
        HESSIAN2 => "hessian2",
        3 => "java",
        4 => "compactedjava",
        6 => "fastjson",
        7 => "nativejava",
        8 => "kryo",
        9 => "fst",
        10 => "native-hessian",
        11 => "avro",
        12 => "protostuff",
        16 => "gson",
        18 => "jackson",
        21 => "protobuf-json",
        22 => "protobuf",
        FASTJSON2 => "fastjson2",
        25 => "kryo2",
        27 | 31 => "msgpack",
        28 => "fury",
        _ => return None,
    })
}
