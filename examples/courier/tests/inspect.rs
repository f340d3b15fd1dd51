//! What people see of courier's frames, of which the codec says nothing but what a proxy must know.
use courier::{ANSWER, Courier, write, write_request};
use meltemi_codecs::inspect::{Reading, Value};
use meltemi_codecs::{Codec, Error, Peer, Step};

fn read(bytes: &[u8]) -> (Peer, Reading, Option<Error>) {
    let sender = Courier.sender(bytes);
    let Ok(Step::Frame(frame)) = Courier.split(sender, bytes, usize::MAX) else { panic!("{bytes:?}") };
    let (reading, fault) = Courier.inspect(&frame, bytes);
    (sender, reading, fault)
}

#[test]
fn a_request_says_what_is_called() {
    let mut bytes = Vec::new();
    write_request(&mut bytes, 7, "north/1", "deliver", b"box");
    let attributes =
        [("command", "deliver"), ("depot", "north/1")].map(|(name, value)| (name.into(), value.into()));
    let reading = Reading {
        kind: "request",
        id: 7,
        length: bytes.len(),
        attributes: attributes.to_vec(),
        ..Reading::default()
    };
    assert_eq!(read(&bytes), (Peer::Client, reading, None));
    let len = bytes.len();
    bytes[16] = 200;
    let (_, reading, fault) = read(&bytes);
    assert_eq!((reading.length, reading.attributes.len()), (len, 1), "what was read before it is there");
    assert_eq!(fault, Some(Error::Malformed { what: "depot", offset: 16 }));
}

#[test]
fn an_answer_says_how_it_ended() {
    let answer = |status| {
        let mut bytes = Vec::new();
        write(&mut bytes, ANSWER, 9, 0, status, b"text");
        let (sender, reading, fault) = read(&bytes);
        assert_eq!((sender, reading.kind, reading.id, fault), (Peer::Server, "response", 9, None));
        (reading.outcome.unwrap(), reading.status)
    };
    assert_eq!(answer(0), ("success", None));
    assert_eq!(answer(1), ("exception", None));
    assert_eq!(answer(4), ("error", Some(Value::Name("UNAVAILABLE".into()))));
    assert_eq!(answer(99), ("error", Some(Value::Number(99))));
}
