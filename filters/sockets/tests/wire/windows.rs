//! Flow control to the byte.

use meltemi_sockets::{Event, Options, Side};

use crate::raw::*;

fn payload_of(frames: &[Frame]) -> usize {
    frames.iter().filter(|frame| frame.kind == DATA).map(|frame| frame.payload.len()).sum()
}

#[test]
fn windows_of_stream_and_connection_are_honoured() {
    let mut raw = Raw::new(Options::default());
    let (id, stream) = raw.connected();
    raw.sockets.write(id).unwrap().extend([7; 200_000]);
    let frames = raw.sent_but_pings(Side::Upstream);
    // The windows of the specification, in frames as large as it allows.
    let lengths: Vec<usize> = frames.iter().map(|frame| frame.payload.len()).collect();
    assert_eq!(lengths, [16_384, 16_384, 16_384, 16_383]);
    assert_eq!(raw.sockets.queued(id), 200_000 - 65_535);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, stream, 1000));
    assert_eq!(payload_of(&raw.sent_but_pings(Side::Upstream)), 0);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, 0, 600));
    assert_eq!(payload_of(&raw.sent_but_pings(Side::Upstream)), 600);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, 0, 600));
    assert_eq!(payload_of(&raw.sent_but_pings(Side::Upstream)), 400);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, stream, 1 << 20));
    assert_eq!(payload_of(&raw.sent_but_pings(Side::Upstream)), 200);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, 0, 1 << 20));
    assert_eq!(payload_of(&raw.sent_but_pings(Side::Upstream)), 200_000 - 65_535 - 1200);
    assert_eq!(raw.sockets.queued(id), 0);
}

#[test]
fn settings_change_windows_and_frames_of_open_streams() {
    let mut raw = Raw::new(Options::default());
    let (id, stream) = raw.connected();
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, 0, 1 << 20));
    raw.sockets.write(id).unwrap().extend([7; 65_000]);
    assert_eq!(payload_of(&raw.sent_but_pings(Side::Upstream)), 65_000);
    // The window becomes negative, by 65 000 - 1000.
    raw.ok(Side::Upstream, &settings(&[(4, 9), (4, 1000), (5, 100_000)]));
    raw.sockets.write(id).unwrap().extend([7; 50_000]);
    assert_eq!(payload_of(&raw.sent_but_pings(Side::Upstream)), 0);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, stream, 64_000));
    assert_eq!(payload_of(&raw.sent_but_pings(Side::Upstream)), 0);
    raw.ok(Side::Upstream, &settings(&[(4, 1001)]));
    assert_eq!(payload_of(&raw.sent_but_pings(Side::Upstream)), 1);
    raw.ok(Side::Upstream, &settings(&[(4, 100_000)]));
    let frames = raw.sent_but_pings(Side::Upstream);
    let lengths: Vec<_> = frames.iter().filter(|f| f.kind == DATA).map(|f| f.payload.len()).collect();
    assert_eq!(lengths, [49_999]);
    // A window that overflows by it breaks the connection.
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, stream, 0x7fff_0000));
    assert!(raw.feed(Side::Upstream, &settings(&[(4, 0x7fff_ffff)])).is_err());
}

#[test]
fn window_is_granted_in_halves_and_only_for_what_was_delivered() {
    let mut raw = Raw::new(Options { receive_window_downstream: 1000, ..Options::default() });
    let id = raw.accepted(1);
    assert_eq!(raw.ok(Side::Downstream, &frame(DATA, 0, 1, [1; 700])).len(), 1);
    raw.sockets.consumed(id, 499);
    assert_eq!(raw.sent_but_pings(Side::Downstream), []);
    raw.sockets.consumed(id, 1);
    let [update] = &raw.sent_but_pings(Side::Downstream)[..] else { panic!() };
    assert_eq!((update.kind, update.stream, update.number()), (WINDOW_UPDATE, 1, 500));
    // 200 are left, and no more are granted whatever is said.
    raw.sockets.consumed(id, 1 << 40);
    assert_eq!(raw.sent_but_pings(Side::Downstream), []);
    assert_eq!(raw.ok(Side::Downstream, &frame(DATA, 0, 1, [1; 800])).len(), 1);
    raw.sockets.consumed(id, 300);
    assert_eq!(raw.sent_but_pings(Side::Downstream)[0].number(), 500);
}

#[test]
fn padding_is_granted_again_by_itself() {
    let mut raw = Raw::new(Options { receive_window_downstream: 1000, ..Options::default() });
    let id = raw.accepted(1);
    let padded = [&[99][..], b"abc", &[0; 99]].concat();
    let mut granted = 0;
    for _ in 0..100 {
        assert_eq!(
            raw.ok(Side::Downstream, &frame(DATA, PADDED, 1, &padded)),
            [Event::Data { id, bytes: b"abc" }]
        );
        raw.sockets.consumed(id, 3);
        for update in raw.sent_but_pings(Side::Downstream) {
            granted += update.number();
        }
    }
    assert!((103 * 100 - 1000..=103 * 100).contains(&granted), "{granted}");
    // Nothing but padding, which is no event.
    assert_eq!(raw.ok(Side::Downstream, &frame(DATA, PADDED, 1, [2, 0, 0])), []);
    assert_eq!(raw.ok(Side::Downstream, &frame(DATA, PADDED | END_STREAM, 1, [0])), [Event::Ended { id }]);
}

/// Until it has acknowledged a smaller window, a peer may use that of the specification.
#[test]
fn a_small_window_holds_from_its_acknowledgement() {
    let options = Options { receive_window_downstream: 100, ..Options::default() };
    let mut raw = Raw { sockets: meltemi_sockets::Sockets::new(options) };
    raw.ok(Side::Downstream, &[PREFACE, &settings(&[])].concat());
    let id = raw.arrived(1);
    raw.sockets.accept(id);
    assert_eq!(raw.ok(Side::Downstream, &frame(DATA, 0, 1, [1; 16_000])).len(), 1);
    raw.ok(Side::Downstream, &frame(SETTINGS, ACK, 0, ""));
    // It is 15 900 below nothing now.
    raw.sockets.consumed(id, 16_000);
    raw.sent_but_pings(Side::Downstream);
    assert_eq!(raw.ok(Side::Downstream, &frame(DATA, 0, 1, [1; 100])).len(), 1);
    assert!(matches!(raw.ok(Side::Downstream, &frame(DATA, 0, 1, [1; 1]))[..], [Event::Reset { .. }]));
}

#[test]
fn writable_comes_between_the_marks() {
    let mut raw = Raw::new(Options { write_high: 1000, write_low: 100, ..Options::default() });
    let (id, stream) = raw.connected();
    raw.ok(Side::Upstream, &settings(&[(4, 0)]));
    raw.answer_pings();
    // The window of this stream was that of the specification; now nothing may be sent.
    raw.sockets.write(id).unwrap().extend([7; 999]);
    raw.sent_but_pings(Side::Upstream);
    assert_eq!(raw.ok(Side::Upstream, &number(WINDOW_UPDATE, stream, 950)), []);
    assert_eq!(payload_of(&raw.sent_but_pings(Side::Upstream)), 950);
    assert_eq!(raw.ok(Side::Downstream, &[]), []);
    raw.sockets.write(id).unwrap().extend([7; 951]);
    raw.sent_but_pings(Side::Upstream);
    assert_eq!(raw.sockets.queued(id), 1000);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, stream, 900));
    raw.sent(Side::Upstream);
    assert_eq!(raw.ok(Side::Upstream, &[]), []);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, stream, 1));
    // The event waits, and a PING sees to it that it is asked for.
    let frames = raw.sent(Side::Upstream);
    assert_eq!(payload_of(&frames), 1);
    assert!(frames.iter().any(|frame| frame.kind == PING));
    assert_eq!(raw.ok(Side::Downstream, &[]), [Event::Writable { id }]);
    assert_eq!(raw.ok(Side::Downstream, &[]), []);
}

#[test]
fn what_is_passed_keeps_its_place_and_to_the_windows() {
    let mut raw = Raw::new(Options::default());
    let (id, stream) = raw.connected();
    let bytes: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    raw.ok(Side::Downstream, &[]);
    raw.sockets.write(id).unwrap().extend(&bytes[..10]);
    assert!(raw.sockets.pass(id, &bytes[10..40_000]));
    assert_eq!((raw.sockets.queued(id), raw.sockets.sent(id)), (0, 40_000), "it waits for nothing");
    assert!(raw.sockets.pass(id, &bytes[40_000..]));
    assert_eq!((raw.sockets.queued(id), raw.sockets.sent(id)), (100_000 - 65_535, 65_535));
    let mut frames = raw.sent_but_pings(Side::Upstream);
    for window in [0, stream] {
        raw.ok(Side::Upstream, &number(WINDOW_UPDATE, window, 1 << 20));
    }
    frames.append(&mut raw.sent_but_pings(Side::Upstream));
    assert!(frames.iter().all(|frame| frame.kind != DATA || frame.payload.len() <= 16_384));
    let sent: Vec<u8> =
        frames.into_iter().filter(|frame| frame.kind == DATA).flat_map(|f| f.payload).collect();
    assert!(sent == bytes);
    raw.ok(Side::Downstream, &[]);
    raw.sockets.finish(id);
    assert!(!raw.sockets.pass(id, b"more"));
}

/// It would be in nobody's account, for as long as the other side is silent.
#[test]
fn what_is_passed_to_the_side_that_is_heard_is_queued() {
    let mut raw = Raw::new(Options::default());
    let (id, _) = raw.connected();
    raw.ok(Side::Upstream, &[]);
    assert!(raw.sockets.pass(id, &[7; 1000]));
    assert_eq!(raw.sockets.queued(id), 1000);
    raw.ok(Side::Downstream, &[]);
    raw.sent(Side::Downstream);
    assert!(raw.sockets.pass(id, &[7; 1000]));
    assert_eq!(raw.sockets.queued(id), 2000);
    assert_eq!(payload_of(&raw.sent_but_pings(Side::Upstream)), 2000);
}

#[test]
fn whoever_waits_to_write_hears_of_it_though_others_pass() {
    let mut raw = Raw::new(Options { write_high: 1000, write_low: 100, ..Options::default() });
    let (id, stream) = raw.connected();
    raw.ok(Side::Upstream, &settings(&[(4, 0)]));
    raw.answer_pings();
    raw.sockets.write(id).unwrap().extend([7; 1000]);
    raw.sent_but_pings(Side::Upstream);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, stream, 1 << 20));
    raw.ok(Side::Downstream, &[]);
    assert!(raw.sockets.pass(id, &[7; 10]));
    assert_eq!(payload_of(&raw.sent(Side::Upstream)), 1010);
    assert_eq!(raw.ok(Side::Downstream, &[]), [Event::Writable { id }]);
}

#[test]
fn windows_become_narrow_and_wide_again_as_the_peer_acknowledges_it() {
    let mut raw = Raw::new(Options { receive_window_downstream: 1000, ..Options::default() });
    let upstream = Options::default().receive_window_upstream;
    let id = raw.accepted(1);
    raw.ok(Side::Downstream, &frame(DATA, 0, 1, [1; 700]));
    raw.sockets.consumed(id, 400);
    assert_eq!(raw.sent_but_pings(Side::Downstream), []);
    raw.sockets.set_receive_windows(100, upstream);
    // More than half of a window is due now.
    let kinds = |frames: &[Frame]| frames.iter().map(|frame| frame.kind).collect::<Vec<_>>();
    let frames = raw.sent_but_pings(Side::Downstream);
    assert_eq!(kinds(&frames), [SETTINGS, WINDOW_UPDATE]);
    assert_eq!((&frames[0].payload[..], frames[1].number()), (&[0, 4, 0, 0, 0, 100][..], 400));
    // What was on its way before the peer heard of it is welcome; another change waits until then.
    raw.sockets.set_receive_windows(1000, upstream);
    assert_eq!(raw.sent_but_pings(Side::Downstream), []);
    assert_eq!(raw.ok(Side::Downstream, &frame(DATA, 0, 1, [1; 600])).len(), 1);
    raw.ok(Side::Downstream, &frame(SETTINGS, ACK, 0, ""));
    // 900 are out beyond the window.
    raw.sockets.consumed(id, 900);
    assert_eq!(kinds(&raw.sent_but_pings(Side::Downstream)), [WINDOW_UPDATE]);
    assert_eq!(raw.ok(Side::Downstream, &frame(DATA, 0, 1, [1; 100])).len(), 1);
    raw.sockets.set_receive_windows(1000, upstream);
    raw.sockets.set_receive_windows(1000, upstream);
    assert_eq!(kinds(&raw.sent_but_pings(Side::Downstream)), [SETTINGS]);
    assert_eq!(raw.ok(Side::Downstream, &frame(DATA, 0, 1, [1; 900])).len(), 1);
    assert!(matches!(raw.ok(Side::Downstream, &frame(DATA, 0, 1, [1; 1]))[..], [Event::Reset { .. }]));
}

#[test]
fn whoever_asks_hears_when_half_of_what_is_queued_has_left() {
    let mut raw = Raw::new(Options::default());
    let (id, stream) = raw.connected();
    raw.ok(Side::Upstream, &settings(&[(4, 0)]));
    raw.answer_pings();
    raw.sockets.write(id).unwrap().extend([7; 300]);
    raw.sockets.await_writable(id);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, stream, 150));
    assert_eq!(payload_of(&raw.sent(Side::Upstream)), 150);
    assert_eq!(raw.ok(Side::Downstream, &[]), []);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, stream, 1));
    assert_eq!(payload_of(&raw.sent(Side::Upstream)), 1);
    assert_eq!(raw.ok(Side::Downstream, &[]), [Event::Writable { id }]);
    raw.ok(Side::Upstream, &number(WINDOW_UPDATE, stream, 149));
    assert_eq!(payload_of(&raw.sent(Side::Upstream)), 149);
    raw.sockets.await_writable(id);
    assert_eq!(raw.ok(Side::Downstream, &[]), [], "nothing is queued");
}

#[test]
fn much_leaves_in_parts_each_with_a_ping_that_brings_the_next() {
    let mut raw = Raw::new(Options::default());
    let (id, stream) = raw.connected();
    for window in [0, stream] {
        raw.ok(Side::Upstream, &number(WINDOW_UPDATE, window, 16 << 20));
    }
    raw.answer_pings();
    raw.sockets.write(id).unwrap().resize(5 << 20, 7);
    let mut left = 5 << 20;
    while left > 0 {
        let frames = raw.sent(Side::Upstream);
        let count = payload_of(&frames);
        assert!((1..=(2 << 20) + 16_384).contains(&count), "{count} bytes left at once");
        left -= count;
        let has_ping = frames.iter().any(|frame| frame.kind == PING);
        assert!(has_ping || left == 0, "nothing brings the other {left} bytes");
        for ping in frames.iter().filter(|frame| frame.kind == PING) {
            raw.ok(Side::Upstream, &frame(PING, ACK, 0, &ping.payload));
            // That comes from the side that is not written to then.
            let pings = raw.sent(Side::Downstream);
            assert!(left == 0 || pings.iter().any(|frame| frame.kind == PING));
            for ping in pings.iter().filter(|frame| frame.kind == PING) {
                raw.ok(Side::Downstream, &frame(PING, ACK, 0, &ping.payload));
            }
        }
    }
    assert_eq!(raw.sockets.queued(id), 0);
}
