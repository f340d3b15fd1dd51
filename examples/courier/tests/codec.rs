//! The courier codec on frames of all kinds.
use courier::{ANSWER, CLOSING, Courier, HEADER, MAGIC, ONE_WAY, PING, write, write_request};
use meltemi_codecs::{
    Change, Codec, Depth, Edit, Error, Failure, Frame, Head, Kind, Outcome, Peer, Sharing, Step,
};

const LIMIT: usize = 4096;

fn request() -> Vec<u8> {
    let mut bytes = Vec::new();
    write_request(&mut bytes, 7, "north/1", "deliver", b"box");
    bytes
}

fn kind(flags: u8, status: u16) -> Kind {
    let mut bytes = Vec::new();
    write(&mut bytes, flags, 9, 0, status, b"body");
    match Courier.split(Peer::Server, &bytes, LIMIT) {
        Ok(Step::Frame(Frame { len, head: 16, kind, id: 9 })) if len == bytes.len() => kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_is_told_apart() {
    assert_eq!(kind(0, 0), Kind::Request);
    assert_eq!(kind(ONE_WAY, 0), Kind::OneWay);
    assert_eq!(kind(ANSWER, 0), Kind::Response(Outcome::Success));
    assert_eq!(kind(ANSWER, 1), Kind::Response(Outcome::Exception));
    assert_eq!(kind(ANSWER, 4), Kind::Response(Outcome::Error(4)));
    assert_eq!(kind(PING, 0), Kind::HeartbeatRequest);
    assert_eq!(kind(PING | ANSWER, 0), Kind::HeartbeatResponse);
    assert_eq!(kind(CLOSING, 0), Kind::Drain);
}

#[test]
fn a_cut_frame_needs_more() {
    let bytes = request();
    for cut in 0..bytes.len() {
        let at_least = if cut < 16 { 16 } else { bytes.len() };
        assert_eq!(Courier.split(Peer::Client, &bytes[..cut], LIMIT), Ok(Step::NeedMore { at_least }));
    }
}

#[test]
fn the_front_of_a_request_says_what_the_whole_does_once_it_has_the_depot() {
    let bytes = request();
    let whole = Courier.split(Peer::Client, &bytes, LIMIT).unwrap();
    let depot = HEADER + 1 + "north/1".len();
    for cut in 0..bytes.len() {
        let mut head = Head::new();
        let front = Courier.front(Peer::Client, &bytes[..cut], LIMIT, &mut head);
        assert_eq!(front.map(Step::Frame), (cut >= depot).then_some(whole), "{cut} bytes");
        if front.is_some() {
            assert_eq!((head.get("depot"), head.get("command")), (Some("north/1"), Some("deliver")));
        }
    }
    let mut answer = Vec::new();
    write(&mut answer, ANSWER, 9, 0, 4, b"no such depot");
    let front = Courier.front(Peer::Server, &answer[..=HEADER], LIMIT, &mut Head::new()).unwrap();
    assert_eq!((front.len, front.kind, front.id), (answer.len(), Kind::Response(Outcome::Error(4)), 9));
    assert_eq!(Courier.front(Peer::Server, &answer[..HEADER], LIMIT, &mut Head::new()), None);
    assert_eq!(Courier.front(Peer::Server, &answer, LIMIT, &mut Head::new()), None, "it is complete");
}

#[test]
fn what_is_no_courier_or_too_large_is_refused() {
    let malformed = Err(Error::Malformed { what: "magic", offset: 0 });
    assert_eq!(Courier.split(Peer::Client, b"GET / HTTP/1.1\r\n", LIMIT), malformed);
    assert_eq!(Courier.split(Peer::Client, b"CR\x02", LIMIT), malformed);
    let mut bytes = request();
    bytes[12] = 0xff;
    let size = 0xff00_0000 + u64::try_from(bytes.len()).unwrap();
    let error = Error::TooLarge { what: "frame", size, limit: LIMIT };
    assert_eq!(Courier.split(Peer::Client, &bytes, LIMIT), Err(error));
}

#[test]
fn the_head_names_depot_and_command() {
    let mut head = Head::new();
    Courier.head(&request(), Depth::Head, &mut head).unwrap();
    let operation = Courier.operation();
    assert_eq!(head.get(operation.service), Some("north/1"));
    assert_eq!(head.get(operation.method), Some("deliver"));
    let mut bytes = request();
    bytes[16] = 200;
    let error = Error::Malformed { what: "depot", offset: 16 };
    assert_eq!(Courier.head(&bytes, Depth::Head, &mut head), Err(error));
    assert_eq!(head.get("command"), Some("deliver"));
    assert!(Courier.head(&bytes[..16], Depth::Head, &mut head).is_ok());
}

#[test]
fn another_id_changes_the_id_alone() {
    assert_eq!((Courier.sharing(), Courier.max_id()), (Sharing::Shared, 0xffff_ffff));
    let mut out = Vec::new();
    Courier.rewrite(&request(), &Edit { id: Some(0x0102_0304), ..Edit::default() }, &mut out).unwrap();
    assert_eq!(out[4..8], [1, 2, 3, 4]);
    assert_eq!((&out[..4], &out[8..]), (&request()[..4], &request()[8..]));
    let changes = [Change::set("k", "v")];
    assert!(Courier.rewrite(&request(), &Edit { changes: &changes, ..Edit::default() }, &mut out).is_err());
}

#[test]
fn replies_are_frames_of_the_same_id() {
    let mut out = Vec::new();
    Courier.error_reply(&request()[..16], Failure::NoRoute, "nowhere", &mut out);
    assert_eq!(out, [&MAGIC[..], &[ANSWER, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 7], b"nowhere"].concat());
    assert_eq!((Courier.status_name(3), Courier.status_code("NO_ROUTE")), (Some("NO_ROUTE"), Some(3)));
    let mut ping = Vec::new();
    write(&mut ping, PING, 8, 0, 0, &[]);
    let mut pong = Vec::new();
    Courier.heartbeat_reply(&ping, &mut pong);
    assert_eq!(pong, [&MAGIC[..], &[PING | ANSWER, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]].concat());
    let mut notice = Vec::new();
    Courier.drain_notice(&mut notice);
    assert_eq!(notice[3], CLOSING);
}
