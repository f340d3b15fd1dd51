//! What is not an error and must still be right.

use std::time::Duration;

use meltemi_sockets::{Code, Event, Options, Side, Target};

use crate::raw::*;

#[test]
fn what_does_not_matter_is_read_over() {
    let mut raw = Raw::new(Options::default());
    let id = raw.accepted(1);
    let input = [
        frame(PRIORITY, 0, 1, [0, 0, 0, 0, 16]),
        frame(PRIORITY, 0, 77, [0, 0, 0, 0, 16]),
        frame(0xbe, 0xff, 1, vec![9; 16_384]),
        frame(0xbe, 0, 0, ""),
        settings(&[(0x33, 7), (8, 1)]),
        frame(PING, ACK, 0, "nobody's"),
        frame(DATA, 0, 1, ""),
        frame(DATA, 0, 1, "here"),
    ]
    .concat();
    assert_eq!(raw.ok(Side::Downstream, &input), [Event::Data { id, bytes: b"here" }]);
}

#[test]
fn settings_and_pings_are_answered() {
    let mut raw = Raw::new(Options::default());
    raw.ok(Side::Downstream, &[settings(&[]), frame(PING, 0, 0, "12345678")].concat());
    let frames = raw.sent_but_pings(Side::Downstream);
    let ack = Frame { kind: SETTINGS, flags: ACK, stream: 0, payload: Vec::new() };
    let pong = Frame { kind: PING, flags: ACK, stream: 0, payload: b"12345678".to_vec() };
    assert_eq!(frames, [ack, pong]);
}

#[test]
fn one_ping_at_a_time_brings_the_callback_for_the_other_side() {
    let mut raw = Raw::new(Options::default());
    let id = raw.accepted(1);
    assert_eq!(raw.sent(Side::Upstream), []);
    raw.sockets.write(id).unwrap().extend(b"for the client");
    let [ping] = &raw.sent(Side::Upstream)[..] else { panic!() };
    assert_eq!((ping.kind, ping.flags), (PING, 0));
    raw.sockets.write(id).unwrap().extend(b", and more");
    assert_eq!(raw.sent(Side::Upstream), []);
    // Another's acknowledgement is not ours.
    raw.ok(Side::Upstream, &frame(PING, ACK, 0, "00000000"));
    assert_eq!(raw.sent(Side::Upstream), []);
    raw.ok(Side::Upstream, &frame(PING, ACK, 0, &ping.payload));
    let [data] = &raw.sent(Side::Downstream)[..] else { panic!() };
    assert_eq!(data.payload, b"for the client, and more");
    assert_eq!(raw.sent(Side::Upstream), []);
}

#[test]
fn a_blocked_socket_asks_for_no_callbacks() {
    let mut raw = Raw::new(Options::default());
    let id = raw.accepted(1);
    raw.sockets.write(id).unwrap().extend([0; 100_000]);
    raw.answer_pings();
    assert_eq!(raw.sockets.queued(id), 100_000 - 65_535);
    assert_eq!(raw.sent(Side::Upstream), []);
    // An end by itself needs no window.
    let other = raw.accepted(3);
    raw.sockets.finish(other);
    let [ping] = &raw.sent(Side::Upstream)[..] else { panic!() };
    raw.ok(Side::Upstream, &frame(PING, ACK, 0, &ping.payload));
    let [end] = &raw.sent(Side::Downstream)[..] else { panic!() };
    assert_eq!((end.kind, end.flags, end.stream, end.payload.len()), (DATA, END_STREAM, 3, 0));
}

#[test]
fn what_is_written_early_waits_for_the_answer() {
    let mut raw = Raw::new(Options::default());
    let client = raw.arrived(1);
    raw.sockets.write(client).unwrap().extend(b"greeting");
    raw.sockets.finish(client);
    assert_eq!(raw.sent_but_pings(Side::Downstream), []);
    raw.sockets.accept(client);
    let [head, data] = &raw.sent_but_pings(Side::Downstream)[..] else { panic!() };
    assert_eq!((head.kind, &head.payload[..], head.flags), (HEADERS, &[0x88][..], END_HEADERS));
    assert_eq!((&data.payload[..], data.flags), (&b"greeting"[..], END_STREAM));

    let (upstream, stream) = raw.connecting();
    raw.sockets.write(upstream).unwrap().extend(b"request");
    assert_eq!(raw.sent_but_pings(Side::Upstream), []);
    raw.ok(Side::Upstream, &[headers(0, stream, &[(":status", "103")]), headers(0, stream, OK)].concat());
    let [data] = &raw.sent_but_pings(Side::Upstream)[..] else { panic!() };
    assert_eq!((&data.payload[..], data.flags), (&b"request"[..], 0));
}

#[test]
fn stale_ids_do_nothing() {
    let mut raw = Raw::new(Options::default());
    let id = raw.accepted(1);
    raw.ok(Side::Downstream, &number(RST_STREAM, 1, 8));
    let again = raw.accepted(3);
    assert_eq!((id.index(), id == again), (again.index(), false));
    assert!(raw.sockets.write(id).is_none());
    assert_eq!(raw.sockets.queued(id), 0);
    raw.sockets.accept(id);
    raw.sockets.reject(id, 500);
    raw.sockets.finish(id);
    raw.sockets.close(id);
    raw.sockets.reset(id);
    raw.sockets.consumed(id, 1);
    assert_eq!(raw.sent_but_pings(Side::Downstream), []);
    assert!(raw.sockets.write(again).is_some());
}

#[test]
fn a_tunnel_can_be_answered_in_each_way() {
    let mut raw = Raw::new(Options::default());
    let id = raw.arrived(1);
    raw.sockets.reject(id, 503);
    raw.sockets.accept(id);
    let [head] = &raw.sent_but_pings(Side::Downstream)[..] else { panic!() };
    assert_eq!(head.flags, END_HEADERS | END_STREAM);
    raw.ok(Side::Downstream, &frame(DATA, END_STREAM, 1, "unread"));
    assert!(raw.sockets.is_idle());

    let id = raw.arrived(3);
    raw.sockets.close(id);
    let [head] = &raw.sent_but_pings(Side::Downstream)[..] else { panic!() };
    assert_eq!(head.flags, END_HEADERS | END_STREAM);
    raw.ok(Side::Downstream, &number(RST_STREAM, 3, 0));

    let id = raw.arrived(5);
    raw.sockets.reset(id);
    assert_eq!(raw.sent_but_pings(Side::Downstream), [rst(5, Code::Cancel)]);
    assert!(raw.sockets.is_idle());
}

#[test]
fn a_connection_can_be_cancelled_before_it_is_open() {
    // Whatever comes of it then is nobody's.
    for answer in [headers(0, 1, OK), headers(END_STREAM, 1, &[(":status", "503")]), number(RST_STREAM, 1, 7)]
    {
        let mut raw = Raw::new(Options::default());
        let (id, stream) = raw.connecting();
        raw.sockets.write(id).unwrap().extend(b"never sent");
        raw.sockets.close(id);
        let [end] = &raw.sent_but_pings(Side::Upstream)[..] else { panic!() };
        assert_eq!((end.kind, end.flags, end.stream, end.payload.len()), (DATA, END_STREAM, stream, 0));
        assert_eq!(raw.ok(Side::Upstream, &answer), []);
        if !raw.sockets.is_idle() {
            assert_eq!(raw.ok(Side::Upstream, &frame(DATA, END_STREAM, stream, "banner")), []);
        }
        assert!(raw.sockets.is_idle());
    }
}

/// What Envoy does when an upstream closes its TCP connection.
#[test]
fn an_end_followed_by_a_reset_without_error_is_clean() {
    let mut raw = Raw::new(Options::default());
    let (id, stream) = raw.connected();
    let input = [frame(DATA, END_STREAM, stream, "last"), number(RST_STREAM, stream, 0)].concat();
    let events = raw.ok(Side::Upstream, &input);
    assert_eq!(
        events,
        [Event::Data { id, bytes: b"last" }, Event::Ended { id }, Event::Reset { id, code: 0 }]
    );
    assert!(raw.sockets.write(id).is_none());
    // The same when the socket is closed as soon as it ends.
    let (id, stream) = raw.connected();
    assert_eq!(raw.ok(Side::Upstream, &frame(DATA, END_STREAM, stream, "")), [Event::Ended { id }]);
    raw.sockets.close(id);
    assert_eq!(raw.ok(Side::Upstream, &number(RST_STREAM, stream, 0)), []);
    assert_eq!(raw.sent_but_pings(Side::Upstream), []);
    assert!(raw.sockets.is_idle());
}

#[test]
fn a_goaway_refuses_what_will_not_be_served() {
    let mut raw = Raw::new(Options::default());
    let (open, stream) = raw.connected();
    let (late, _) = raw.connecting();
    assert!(raw.sockets.alarm(Duration::from_secs(1)));
    raw.ok(Side::Upstream, &settings(&[(3, 3)]));
    let waiting = raw.sockets.connect(&Target { cluster: "v1", ..Target::default() }).unwrap();
    let payload = [stream.to_be_bytes(), [0; 4]].concat();
    let goaway = frame(GOAWAY, 0, 0, &payload);
    let events = raw.ok(Side::Upstream, &goaway);
    let refused = |id| Event::Refused { id, status: 0, endpoint: None, reason: String::new() };
    let side = Side::Upstream;
    assert_eq!(events, [refused(late), Event::Alarm, refused(waiting), Event::GoingAway { side }]);
    assert_eq!(raw.ok(side, &frame(DATA, 0, stream, "on")), [Event::Data { id: open, bytes: b"on" }]);
    assert!(!raw.sockets.alarm(Duration::from_secs(1)));
    // The second one, with the same word, is no news.
    assert_eq!(raw.ok(side, &frame(GOAWAY, 0, 0, &payload)), []);
    assert!(raw.sockets.is_draining());
    let goaway = raw.sent_but_pings(Side::Downstream).remove(0);
    assert_eq!((goaway.kind, goaway.number()), (GOAWAY, 0x7fff_ffff));
}

#[test]
fn a_notice_of_a_goaway_refuses_nothing_yet() {
    let mut raw = Raw::new(Options::default());
    let side = Side::Upstream;
    let (late, stream) = raw.connecting();
    raw.ok(side, &settings(&[(3, 1)]));
    let waiting = raw.sockets.connect(&Target { cluster: "v1", ..Target::default() }).unwrap();
    let notice = frame(GOAWAY, 0, 0, [[0x7f, 0xff, 0xff, 0xff], [0; 4]].concat());
    assert_eq!(raw.ok(side, &notice), [Event::GoingAway { side }]);
    assert!(raw.sockets.is_draining());
    assert!(raw.sockets.alarm(Duration::from_secs(1)));
    assert!(raw.sockets.connect(&Target { cluster: "v1", ..Target::default() }).is_some());
    // Some seconds later it is meant.
    let goaway = frame(GOAWAY, 0, 0, [stream.to_be_bytes(), [0; 4]].concat());
    let events = raw.ok(side, &goaway);
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(events.iter().all(|event| match event {
        Event::Refused { id, .. } => *id != late,
        event => *event == Event::Alarm,
    }));
    assert!(events.contains(&Event::Refused {
        id: waiting,
        status: 0,
        endpoint: None,
        reason: String::new()
    }));
    assert!(!raw.sockets.alarm(Duration::from_secs(1)));
}

#[test]
fn streams_after_the_final_goaway_are_not_served() {
    let mut raw = Raw::new(Options::default());
    raw.accepted(1);
    raw.sockets.drain();
    raw.sockets.drain();
    let frames = raw.sent(Side::Downstream);
    assert_eq!(frames.iter().map(|frame| frame.kind).collect::<Vec<_>>(), [GOAWAY, PING]);
    // Under way when the GOAWAY left.
    raw.accepted(3);
    raw.ok(Side::Downstream, &frame(PING, ACK, 0, &frames[1].payload));
    let goaway = raw.sent_but_pings(Side::Downstream).remove(0);
    assert_eq!((goaway.kind, goaway.number()), (GOAWAY, 3));
    let late = [
        headers(0, 5, CONNECT),
        frame(DATA, 0, 5, "x"),
        number(WINDOW_UPDATE, 5, 9),
        number(RST_STREAM, 5, 8),
    ];
    assert_eq!(raw.ok(Side::Downstream, &late.concat()), []);
    assert_eq!(raw.sent_but_pings(Side::Downstream), []);
}

#[test]
fn many_lingering_sockets_are_reset_oldest_first() {
    let mut raw = Raw::new(Options { max_lingering: 3, ..Options::default() });
    for stream in [1, 3, 5, 7, 9] {
        let id = raw.accepted(stream);
        raw.sockets.close(id);
        let mut frames = raw.sent_but_pings(Side::Downstream);
        frames.extend(raw.sent_but_pings(Side::Downstream));
        let resets: Vec<_> = frames.into_iter().filter(|frame| frame.kind == RST_STREAM).collect();
        let expected = if stream < 7 { vec![] } else { vec![rst(stream - 6, Code::NoError)] };
        assert_eq!(resets, expected);
    }
}

#[test]
fn closed_sockets_that_are_not_read_are_reset_oldest_first_when_they_hold_much() {
    let mut raw = Raw::new(Options { max_undelivered: 1 << 20, ..Options::default() });
    let mut reset = Vec::new();
    for stream in (1..40).step_by(2) {
        let id = raw.accepted(stream);
        raw.sockets.count(id);
        raw.sockets.write(id).unwrap().extend([7; 250_000]);
        assert!(raw.sockets.counted() >= 250_000);
        raw.sockets.close(id);
        assert_eq!(raw.sockets.counted(), 0);
        let frames = raw.sent_but_pings(Side::Downstream);
        for frame in frames.into_iter().filter(|frame| frame.kind == RST_STREAM) {
            // What is dropped is no end of what was said.
            assert_eq!(frame, rst(frame.stream, Code::Cancel));
            reset.push(frame.stream);
        }
    }
    // Four of them are within the limit.
    assert_eq!(reset.len(), 16, "{reset:?}");
    assert_eq!(raw.sockets.take_dropped(Side::Downstream), 16);
    assert_eq!(raw.sockets.take_dropped(Side::Downstream), 0);
    assert!(reset.iter().zip((1..).step_by(2)).all(|(stream, expected)| *stream == expected), "{reset:?}");
}

#[test]
fn so_are_those_of_servers_that_do_not_read() {
    let mut raw = Raw::new(Options { max_undelivered: 1 << 20, ..Options::default() });
    let mut reset = Vec::new();
    let streams: Vec<u32> = (0..20)
        .map(|_| {
            let (id, stream) = raw.connected();
            raw.sockets.write(id).unwrap().extend([7; 250_000]);
            raw.sockets.close(id);
            let frames = raw.sent_but_pings(Side::Upstream);
            reset.extend(frames.iter().filter(|frame| frame.kind == RST_STREAM).map(|frame| frame.stream));
            stream
        })
        .collect();
    assert!(reset.len() >= 16 && streams.starts_with(&reset), "{reset:?} of {streams:?}");
    // What clients have still to get has room of its own.
    let client = raw.accepted(1);
    raw.sockets.write(client).unwrap().extend([7; 250_000]);
    raw.sockets.close(client);
    let frames = raw.sent_but_pings(Side::Downstream);
    assert!(frames.iter().all(|frame| frame.kind != RST_STREAM), "{frames:?}");
}

#[test]
fn the_table_size_of_the_peer_is_kept() {
    let mut raw = Raw::new(Options::default());
    raw.ok(Side::Upstream, &settings(&[(1, 0)]));
    raw.sockets.connect(&Target { cluster: "v1", ..Target::default() }).unwrap();
    let frames = raw.sent_but_pings(Side::Upstream);
    let first = frames.iter().find(|frame| frame.kind == HEADERS).unwrap();
    assert_eq!(first.payload[0], 0x20);
    raw.sockets.connect(&Target { cluster: "v1", ..Target::default() }).unwrap();
    let frames = raw.sent_but_pings(Side::Upstream);
    // Nothing was kept in a table, so the second says everything again.
    assert_eq!(frames[0].payload.len() + 1, first.payload.len());
}
