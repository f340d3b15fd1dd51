//! Answers in the order of requests, for clients that know them by that.

use std::collections::VecDeque;

use crate::calls::CallId;

/// The requests of a client of which an earlier one, or they themselves, wait for the answer.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    turns: VecDeque<Turn>,
    /// Bytes of answers that wait for earlier ones.
    held: usize,
    /// What the sum of unread bytes has of them.
    counted: usize,
}

#[derive(Debug)]
struct Turn {
    /// The call, unless all that it is answered with is here.
    call: Option<CallId>,
    answer: Vec<u8>,
}

impl Turns {
    /// How many requests there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.turns.len()
    }

    /// Bytes of answers that wait for earlier ones.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// A call was begun.
    pub(crate) fn begin(&mut self, call: CallId) {
        self.turns.push_back(Turn { call: Some(call), answer: Vec::new() });
    }

    /// Whether the answer of `call` waits for an earlier one.
    #[inline]
    pub(crate) fn must_wait(&self, call: CallId) -> bool {
        let is_first = self.turns.front().is_none_or(|turn| turn.call == Some(call));
        !is_first && self.turns.iter().any(|turn| turn.call == Some(call))
    }

    /// Keeps the answer that `write` appends until its turn comes: that of a call, or one of a request that became none.
    pub(crate) fn hold(&mut self, call: Option<CallId>, write: impl FnOnce(&mut Vec<u8>)) {
        let turn = match call {
            Some(_) => self.turns.iter_mut().find(|turn| turn.call == call),
            None => {
                self.turns.push_back(Turn { call: None, answer: Vec::new() });
                self.turns.back_mut()
            }
        };
        if let Some(turn) = turn {
            let before = turn.answer.len();
            write(&mut turn.answer);
            self.held = self.held.saturating_add(turn.answer.len()).saturating_sub(before);
        }
    }

    /// A call has ended. Whether that was the next: answers that waited for it are to be taken.
    pub(crate) fn end(&mut self, call: CallId) -> bool {
        let Some(place) = self.turns.iter().position(|turn| turn.call == Some(call)) else { return false };
        if let Some(turn) = self.turns.get_mut(place) {
            turn.call = None;
        }
        place == 0
    }

    /// Takes the next answer, if its turn has come.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let turn = self.turns.pop_front_if(|turn| turn.call.is_none())?;
        self.held = self.held.saturating_sub(turn.answer.len());
        Some(turn.answer)
    }

    /// Corrects the sum of unread bytes.
    pub(crate) fn count(&mut self, sum: &mut usize) {
        let before = core::mem::replace(&mut self.counted, self.held);
        *sum = sum.saturating_sub(before).saturating_add(self.counted);
    }

    /// What the sum of unread bytes has of it.
    pub(crate) fn counted(&self) -> usize {
        self.counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Id;

    fn call(number: u32) -> CallId {
        Id::new(number, 1)
    }

    #[test]
    fn answers_leave_in_the_order_of_requests() {
        let mut turns = Turns::default();
        (0..3).for_each(|number| turns.begin(call(number)));
        turns.hold(None, |out| out.extend(b"refused"));
        assert_eq!([0, 1, 9].map(|number| turns.must_wait(call(number))), [false, true, false]);
        turns.hold(Some(call(2)), |out| out.extend(b"two"));
        assert!(!turns.end(call(2)) && !turns.end(call(2)));
        assert_eq!((turns.take(), turns.held(), turns.len()), (None, 10, 4));
        let mut sum = 5;
        turns.count(&mut sum);
        assert_eq!((sum, turns.counted()), (15, 10));

        // The first was written by itself.
        assert!(turns.end(call(0)));
        assert_eq!((turns.take(), turns.take()), (Some(Vec::new()), None));
        assert!(turns.end(call(1)));
        let left: Vec<_> = core::iter::from_fn(|| turns.take()).collect();
        assert_eq!(left, [&b""[..], b"two", b"refused"]);
        turns.count(&mut sum);
        assert_eq!((turns.held(), turns.len(), sum), (0, 0, 5));
    }
}
