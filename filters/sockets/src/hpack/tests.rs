use super::decode::{List, Malformed};
use super::*;

type Owned = Vec<(Vec<u8>, Vec<u8>)>;

fn owned(fields: &Fields) -> Owned {
    fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Owned, Malformed> {
    let mut fields = Fields::default();
    let list = decoder.decode(block, usize::MAX, &mut fields)?;
    assert_eq!(list, List::Whole);
    Ok(owned(&fields))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter_map(|c| char::from(c).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn list(fields: &[(&str, &str)]) -> Owned {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// RFC 7541 appendices C.4 (requests) and C.6 (responses with eviction), both with Huffman.
#[test]
fn decodes_the_examples_of_the_specification() {
    let mut decoder = Decoder::new();
    let first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
    assert_eq!(decode(&mut decoder, &hex("828684418cf1e3c2e5f23a6ba0ab90f4ff")).unwrap(), list(&first));
    let mut second = first.to_vec();
    second.push(("cache-control", "no-cache"));
    assert_eq!(decode(&mut decoder, &hex("828684be5886a8eb10649cbf")).unwrap(), list(&second));
    let third = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    let block = hex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf");
    assert_eq!(decode(&mut decoder, &block).unwrap(), list(&third));
}

#[test]
fn agrees_with_another_implementation_both_ways() {
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut ours, mut theirs) = (Encoder::new(), loona_hpack::Decoder::new());
    let (mut other, mut own) = (loona_hpack::Encoder::new(), Decoder::new());
    for round in 0..2000 {
        let fields: Owned = (0..random(12))
            .map(|_| {
                let name = format!("x-{}", random(40));
                let value: Vec<u8> = (0..random(200)).map(|_| random(256) as u8).collect();
                (name.into_bytes(), if random(2) == 0 { b"constant".to_vec() } else { value })
            })
            .collect();
        if round % 97 == 0 {
            ours.resize(random(5000) as usize);
            ours.resize(random(5000) as usize);
        }
        let mut block = Vec::new();
        if !fields.is_empty() {
            ours.begin(&mut block);
        }
        for (name, value) in &fields {
            ours.field(&mut block, name, value);
        }
        assert_eq!(theirs.decode(&block).unwrap(), fields);
        let block = other.encode(fields.iter().map(|(name, value)| (&name[..], &value[..])));
        assert_eq!(decode(&mut own, &block).unwrap(), fields);
    }
}

#[test]
fn decodes_what_huffman_codes_for_every_byte() {
    // 28 ones and a zero bit pattern per symbol is tedious to write; the other implementation decodes the same inputs.
    let mut other = loona_hpack::huffman::HuffmanDecoder::new();
    let mut state = 1_u32;
    for round in 0..20_000_u32 {
        let length = round % 24;
        let coded: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let byte = (state >> 24) as u8;
                if round % 3 == 0 { byte | 0xf0 } else { byte }
            })
            .collect();
        let mut text = Vec::new();
        let ours = huffman::decode(&coded, &mut text).map(|_| text);
        assert_eq!(ours, other.decode(&coded).ok(), "{coded:02x?}");
    }
}

#[test]
fn refuses_what_is_malformed() {
    for (block, why) in [
        ("80", "index 0"),
        ("ff8080808001", "an integer in too many bytes"),
        ("ffffffff", "an integer that does not end"),
        ("be", "an index past both tables"),
        ("40", "a literal without a name"),
        ("400161", "a literal without a value"),
        ("4001610561", "a string that does not end"),
        ("3fe21f8281", "a table larger than was allowed"),
        ("8220", "a size update after a field"),
        ("20", "a size update alone"),
        ("41 84ffffffff", "EOS in a string"),
        ("41 81 00", "padding that is not all ones"),
        ("41 82 1f ff", "padding of more than seven bits"),
    ] {
        assert_eq!(decode(&mut Decoder::new(), &hex(block)), Err(Malformed), "{why}");
    }
}

#[test]
fn cuts_a_list_over_the_limit_but_keeps_its_tables() {
    let mut encoder = Encoder::new();
    let mut block = Vec::new();
    encoder.field(&mut block, b"first", b"1");
    encoder.field(&mut block, b"second", b"2");
    let mut decoder = Decoder::new();
    let mut fields = Fields::default();
    assert_eq!(decoder.decode(&block, 40, &mut fields), Ok(List::Cut));
    assert_eq!(owned(&fields), list(&[("first", "1")]));
    let mut again = Vec::new();
    encoder.field(&mut again, b"second", b"2");
    assert_eq!(again.len(), 1);
    assert_eq!(decode(&mut decoder, &again).unwrap(), list(&[("second", "2")]));
}

#[test]
fn a_small_block_cannot_make_a_large_list() {
    let mut decoder = Decoder::new();
    let mut encoder = Encoder::new();
    let mut block = Vec::new();
    encoder.field(&mut block, b"x", &[b'a'; 200]);
    block.extend(std::iter::repeat_n(0xbe, 60_000));
    let mut fields = Fields::default();
    assert_eq!(decoder.decode(&block, 65_536, &mut fields), Ok(List::Cut));
    assert!(fields.bytes.len() <= 65_536);
}

/// What loggers are told of calls: most fields are the same call by call, some never are.
#[test]
fn fields_that_never_come_again_do_not_push_out_those_that_do() {
    let fields = |call: usize| {
        let id = format!("{:08x}", (call as u32).wrapping_mul(0x9e37_79b9));
        let mut fields = list(&[
            (":method", "POST"),
            (":authority", "outbound|20880||demo.shop.svc.cluster.local"),
            (":path", ["/org.example.Greeter/sayHello", "/org.example.Greeter/sayAdieu"][call % 2]),
            ("x-call-protocol", "dubbo"),
            ("x-call-outcome", "success"),
            ("x-call-cluster", "outbound|20880||demo.shop.svc.cluster.local"),
            ("x-call-endpoint", ["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"][call % 3]),
        ]);
        for name in ["x-call-start", "x-call-duration", "x-call-request-bytes", "x-call-trace", "x-call-id"] {
            fields.push((name.into(), format!("{id}{}", name.len()).into_bytes()));
        }
        fields.push((b"x-call-line".to_vec(), id.repeat(50).into_bytes()));
        fields
    };
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut bytes = 0;
    for call in 0..1000 {
        let (fields, mut block) = (fields(call), Vec::new());
        fields.iter().for_each(|(name, value)| encoder.field(&mut block, name, value));
        assert_eq!(decode(&mut decoder, &block).unwrap(), fields);
        if call >= 500 {
            bytes += block.len();
        }
    }
    // 7 indices, 5 times an index and a value of 10 bytes, and the line with its name.
    assert!(bytes / 500 <= 7 + 5 * 13 + 11 + 400 + 5, "{} bytes for a call", bytes / 500);
}
