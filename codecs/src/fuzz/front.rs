use core::time::Duration;

use super::LIMIT;
use crate::{Codec, Deadlines, Depth, Edit, Frame, Head, Kind, Peer, Step};

/// Cuts a complete frame into a front and a rest, at each place: what the front says must hold for the whole, whose rest must
/// follow what becomes of it. In how many places that can be.
pub fn fuzz_front(codec: &dyn Codec, from: Peer, bytes: &[u8]) -> usize {
    let Ok(Step::Frame(whole)) = codec.split(from, bytes, LIMIT) else { return 0 };
    let id = Some(!whole.id & codec.max_id());
    // It is told as cheaply as the id.
    let is_timed = codec.deadlines() == Deadlines::Always && is_call(&whole);
    let times = [None, Some(Duration::from_millis(77))];
    let edits = times.into_iter().take(if is_timed { 2 } else { 1 });
    let edits: Vec<_> = edits.map(|time| Edit { id, time, ..Edit::default() }).collect();
    let rewrite = |bytes: &[u8], edit: &Edit<'_>| {
        let mut out = Vec::new();
        let written = codec.rewrite(bytes, edit, &mut out);
        assert!(written.is_ok(), "{written:?}");
        out
    };
    // Frames that are long are not cut everywhere.
    let step = (whole.len / 256).max(1);
    let mut fronts = 0_usize;
    for (front, rest) in (0..whole.len).step_by(step).filter_map(|cut| bytes.split_at_checked(cut)) {
        let mut head = Head::new();
        let Some(said) = codec.front(from, front, LIMIT, &mut head) else { continue };
        fronts = fronts.saturating_add(1);
        assert_eq!(said, whole);
        assert!(said.head <= front.len(), "{said:?} of {}", front.len());
        let mut other = Head::new();
        assert_eq!(codec.front(from, front, whole.len.saturating_sub(1), &mut other), None);
        for edit in &edits {
            assert_eq!([rewrite(front, edit), rest.to_vec()].concat(), rewrite(bytes, edit));
        }
        if from == Peer::Client && is_call(&whole) {
            assert_eq!(codec.head(bytes, Depth::Head, &mut other), Ok(()));
            assert_eq!(head.iter().collect::<Vec<_>>(), other.iter().collect::<Vec<_>>());
        }
        if is_timed {
            assert_eq!(codec.time(front), codec.time(bytes));
        }
        for byte in [0x00, 0x01, b'N', 0xff] {
            let whole = [front, &vec![byte; rest.len()]].concat();
            assert_eq!(codec.split(from, &whole, LIMIT), Ok(Step::Frame(said)), "whatever follows");
            if from == Peer::Client && is_call(&said) {
                assert_eq!(codec.head(&whole, Depth::Head, &mut other), Ok(()));
                assert_eq!(head.iter().collect::<Vec<_>>(), other.iter().collect::<Vec<_>>());
            }
        }
    }
    fronts
}

fn is_call(frame: &Frame) -> bool {
    matches!(frame.kind, Kind::Request | Kind::OneWay)
}
