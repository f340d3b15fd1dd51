//! The reader and writer of protobuf's wire format, with the crate prost as the other side.
use std::collections::HashMap;

use meltemi_codecs::Error;
use meltemi_codecs::protobuf::{
    self, Field, Fields, Value, read_varint, set_number, write_entry, write_fields, write_varint,
};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Outer {
    #[prost(message, optional, tag = "1")]
    inner: Option<Inner>,
    #[prost(int32, tag = "2")]
    number: i32,
    #[prost(bytes = "vec", tag = "3")]
    bytes: Vec<u8>,
    #[prost(map = "string, bytes", tag = "9")]
    entries: HashMap<String, Vec<u8>>,
    #[prost(fixed32, tag = "20")]
    four: u32,
    #[prost(double, tag = "500000")]
    eight: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Inner {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(uint64, tag = "2")]
    id: u64,
    #[prost(message, optional, boxed, tag = "3")]
    deeper: Option<Box<Inner>>,
}

fn fields(message: &[u8]) -> Vec<Field<'_>> {
    Fields::new(message).collect::<Result<_, _>>().unwrap()
}

fn inner() -> impl Strategy<Value = Inner> {
    let leaf = (any::<String>(), any::<u64>()).prop_map(|(text, id)| Inner { text, id, deeper: None });
    leaf.prop_recursive(3, 8, 1, |deeper| {
        (any::<String>(), any::<u64>(), deeper).prop_map(|(text, id, deeper)| Inner {
            text,
            id,
            deeper: Some(Box::new(deeper)),
        })
    })
}

fn outer() -> impl Strategy<Value = Outer> {
    let entries = hash_map(any::<String>(), vec(any::<u8>(), 0..8), 0..4);
    let parts = (proptest::option::of(inner()), any::<i32>(), vec(any::<u8>(), 0..300), entries);
    (parts, any::<u32>(), -1e9..1e9).prop_map(|((inner, number, bytes, entries), four, eight)| Outer {
        inner,
        number,
        bytes,
        entries,
        four,
        eight,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fields_are_what_another_implementation_wrote(message in outer()) {
        let bytes = message.encode_to_vec();
        let inner = message.inner.as_ref().map(Inner::encode_to_vec);
        let mut entries = HashMap::new();
        let mut end = 0;
        for field in fields(&bytes) {
            prop_assert_eq!(field.offset, end);
            prop_assert_eq!(field.bytes, &bytes[end..][..field.bytes.len()]);
            end += field.bytes.len();
            match field.number {
                1 => prop_assert_eq!(field.value.bytes(), inner.as_deref()),
                2 => prop_assert_eq!(field.value.varint().map(|value| value as i32), Some(message.number)),
                3 => prop_assert_eq!(field.value, Value::Bytes(&message.bytes)),
                9 => {
                    let (key, value) = field.entry().unwrap();
                    prop_assert!(entries.insert(key.to_owned(), value.to_owned()).is_none());
                }
                20 => prop_assert_eq!(field.value, Value::Fixed32(message.four)),
                500_000 => prop_assert_eq!(field.value, Value::Fixed64(message.eight.to_bits())),
                other => prop_assert!(false, "{}", other),
            }
        }
        prop_assert_eq!(end, bytes.len());
        prop_assert_eq!(entries, message.entries);
    }

    #[test]
    fn a_number_is_set_where_its_path_leads(message in outer(), value: u64) {
        let bytes = message.encode_to_vec();
        let mut out = b"before".to_vec();
        set_number(&bytes, &[1, 3, 2], value, &mut out).unwrap();
        let mut expected = message.clone();
        expected.inner.get_or_insert_default().deeper.get_or_insert_default().id = value;
        prop_assert_eq!(Outer::decode(&out[6..]), Ok(expected));

        let mut out = Vec::new();
        set_number(&bytes, &[2], value, &mut out).unwrap();
        prop_assert_eq!(Outer::decode(&*out), Ok(Outer { number: value as i32, ..message.clone() }));
    }

    #[test]
    fn what_stays_keeps_its_bytes(message in outer()) {
        let bytes = message.encode_to_vec();
        let mut out = Vec::new();
        let mut write = |field: &Field<'_>, out: &mut Vec<u8>| {
            if field.number != 9 {
                out.extend_from_slice(field.bytes);
            }
        };
        write_fields(Fields::new(&bytes), &mut write, &mut out).unwrap();
        write_entry(9, "k", "é😀".as_bytes(), &mut out);
        let entries = [("k".to_owned(), "é😀".into())].into();
        prop_assert_eq!(Outer::decode(&*out), Ok(Outer { entries, ..message }));
    }

    #[test]
    fn varints_come_back(value: u64, shift in 0..64) {
        let value = value >> shift;
        let mut out = Vec::new();
        write_varint(value, &mut out);
        prop_assert_eq!(out.len(), prost::encoding::encoded_len_varint(value));
        out.push(7);
        prop_assert_eq!(read_varint(&out), Some((value, &[7][..])));
    }

    #[test]
    fn any_bytes_are_fields_or_one_error(bytes in vec(any::<u8>(), 0..64)) {
        let mut end = 0;
        for field in Fields::at(&bytes, 100) {
            match field {
                Ok(field) => {
                    prop_assert_eq!(field.offset, end + 100);
                    end += field.bytes.len();
                }
                Err(Error::Malformed { offset, .. } | Error::Unsupported { offset, .. }) => {
                    prop_assert_eq!(offset, end + 100);
                    end = bytes.len();
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
        prop_assert_eq!(end, bytes.len());
        let mut out = Vec::new();
        let _ = set_number(&bytes, &[1, 2], 3, &mut out);
    }
}

#[test]
fn the_last_of_several_is_replaced() {
    let mut message = Vec::new();
    protobuf::write_number(2, 1, &mut message);
    protobuf::write_bytes(3, b"x", &mut message);
    protobuf::write_number(2, 300, &mut message);
    protobuf::write_bytes(3, b"y", &mut message);
    let mut out = Vec::new();
    set_number(&message, &[2], 5, &mut out).unwrap();
    let numbers: Vec<_> = fields(&out).iter().filter_map(|field| field.value.varint()).collect();
    assert_eq!(numbers, [1, 5]);
    assert_eq!(Outer::decode(&*out).unwrap().number, 5);
    assert_eq!(out.len(), message.len() - 1);
}

#[test]
fn an_error_says_where() {
    let error = |bytes: &[u8]| Fields::at(bytes, 10).find_map(Result::err).unwrap();
    let malformed = |what, offset| Error::Malformed { what, offset };
    // Cut values of each type, after a good field.
    for cut in [&[8, 1, 8][..], &[8, 1, 9, 0, 0, 0], &[8, 1, 10, 2, 0], &[8, 1, 13, 0, 0, 0]] {
        assert_eq!(error(cut), malformed("protobuf field", 12), "{cut:?}");
    }
    // A length that no memory has.
    assert_eq!(error(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), malformed("protobuf field", 10));
    // A number of 11 bytes.
    assert_eq!(error(&[&[8][..], &[0x80; 10], &[1]].concat()), malformed("protobuf field", 10));
    // No field has the number 0, and none of 30 bits.
    assert_eq!(error(&[0, 1]), malformed("protobuf tag", 10));
    assert_eq!(error(&[0x80, 0x80, 0x80, 0x80, 0x10, 1]), malformed("protobuf tag", 10));
    // A type that nobody has; groups.
    assert_eq!(error(&[14]), malformed("protobuf field", 10));
    assert_eq!(error(&[11, 12]), Error::Unsupported { what: "protobuf group", offset: 10 });
    // In a message in a field.
    let field = Fields::at(&[18, 3, 8, 1, 14], 10).next().unwrap().unwrap();
    assert_eq!(field.fields().unwrap().find_map(Result::err), Some(malformed("protobuf field", 14)));
}
