//! DATA that passes without being read.

use meltemi_sockets::{Event, Options, Side, SocketId};

use crate::raw::*;

const UP: Side = Side::Upstream;
const HEAD: usize = 9;

/// An upstream connection and its stream, and a client whose stream is 1.
fn pair(options: Options) -> (Raw, SocketId, u32, SocketId) {
    let mut raw = Raw::new(options);
    let client = raw.accepted(1);
    let (server, stream) = raw.connected();
    (raw, server, stream, client)
}

/// Has a frame pass: the head that goes to the client.
fn pass(raw: &mut Raw, bytes: &[u8], to: SocketId) -> Option<[u8; HEAD]> {
    let unread = raw.sockets.unread(UP, &bytes[..HEAD.min(bytes.len())], bytes.len())?;
    raw.sockets.pass_unread(unread, to)
}

#[test]
fn a_frame_passes_under_another_head() {
    let (mut raw, server, stream, client) = pair(Options::default());
    let data = frame(DATA, 0, stream, [7; 5000]);
    let head = pass(&mut raw, &data, client).unwrap();
    assert_eq!(head, frame(DATA, 0, 1, [7; 5000])[..HEAD]);
    assert_eq!((raw.sockets.sent(client), raw.sockets.queued(client)), (5000, 0));
    assert_eq!(raw.sent_but_pings(Side::Downstream), []);
    // What is read and what is not follow one another.
    assert_eq!(raw.ok(UP, &frame(DATA, 0, stream, b"abc")), [Event::Data { id: server, bytes: b"abc" }]);
    assert!(pass(&mut raw, &data, client).is_some());
}

#[test]
fn it_takes_and_gives_back_the_windows_of_both_sides() {
    let (mut raw, server, stream, client) =
        pair(Options { receive_window_upstream: 12_000, ..Options::default() });
    let data = frame(DATA, 0, stream, [7; 5000]);
    assert!(pass(&mut raw, &data, client).is_some());
    raw.sockets.consumed(server, 5000);
    assert_eq!(raw.sent_but_pings(UP), []);
    assert!(pass(&mut raw, &data, client).is_some());
    assert_eq!(pass(&mut raw, &data, client), None, "its window is 2000");
    raw.sockets.consumed(server, 1 << 40);
    let [update] = &raw.sent_but_pings(UP)[..] else { panic!() };
    assert_eq!((update.kind, update.stream, update.number()), (WINDOW_UPDATE, stream, 10_000));
    // The client has 65 535 bytes of window, of which 10 000 are used.
    for left in (0..11).rev() {
        assert!(pass(&mut raw, &data, client).is_some());
        raw.sockets.consumed(server, 5000);
        raw.sent_but_pings(UP);
        assert_eq!(raw.sockets.sent(client), 65_000 - left * 5000);
    }
    assert_eq!(pass(&mut raw, &data, client), None, "the window of the client is 535");
    raw.ok(Side::Downstream, &number(WINDOW_UPDATE, 1, 10_000));
    assert_eq!(pass(&mut raw, &data, client), None, "that of all clients is as small");
    raw.ok(Side::Downstream, &number(WINDOW_UPDATE, 0, 10_000));
    assert!(pass(&mut raw, &data, client).is_some());
}

#[test]
fn what_is_not_one_whole_frame_of_data_is_read() {
    let (mut raw, _, stream, client) = pair(Options::default());
    let data = frame(DATA, 0, stream, [7; 5000]);
    let others = [
        data[..5000].to_vec(),
        [&data[..], &data].concat(),
        frame(DATA, END_STREAM, stream, [7; 5000]),
        frame(DATA, PADDED, stream, [7; 5000]),
        frame(DATA, 0, stream + 2, [7; 5000]),
        frame(DATA, 0, 0, [7; 5000]),
        frame(DATA, 0, stream, [7; 16_385]),
        frame(WINDOW_UPDATE, 0, stream, [0; 4]),
        data[..8].to_vec(),
    ];
    for bytes in others {
        assert_eq!(pass(&mut raw, &bytes, client), None, "{:?}", &bytes[..HEAD.min(bytes.len())]);
    }
    // The rest of a frame is none by itself.
    raw.ok(UP, &data[..100]);
    assert_eq!(pass(&mut raw, &data, client), None);
    raw.ok(UP, &data[100..]);
    assert!(pass(&mut raw, &data, client).is_some());
    raw.ok(UP, &data[..4]);
    assert_eq!(pass(&mut raw, &data, client), None);
}

#[test]
fn nothing_overtakes_or_reaches_who_is_gone() {
    let (mut raw, server, stream, client) = pair(Options::default());
    let data = frame(DATA, 0, stream, [7; 5000]);
    assert_eq!(pass(&mut raw, &data, server), None, "a side passes nothing to itself");
    raw.sockets.write(client).unwrap().push(1);
    assert_eq!(pass(&mut raw, &data, client), None, "a byte is before it");
    raw.sent_but_pings(Side::Downstream);
    assert!(pass(&mut raw, &data, client).is_some());
    let (opening, other) = raw.connecting();
    assert_eq!(pass(&mut raw, &frame(DATA, 0, other, [7; 5000]), client), None, "it is not open");
    raw.sockets.close(opening);
    raw.sockets.finish(client);
    assert_eq!(pass(&mut raw, &data, client), None, "its end is due");
    raw.sockets.close(client);
    assert_eq!(pass(&mut raw, &data, client), None, "it is gone");
    let next = raw.accepted(3);
    assert!(pass(&mut raw, &data, next).is_some());
    raw.sockets.close(server);
    assert_eq!(pass(&mut raw, &data, next), None, "nobody reads what comes");
}
