use crate::inbox::Inbox;

/// What has come on a connection and is not done with: bytes that were not read, as far as they count as memory, and the
/// window that was not given back for what has come.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    inbox: Inbox,
    /// What the sum of unread bytes has of the inbox.
    counted: usize,
    credit: usize,
}

impl Intake {
    /// Notes that so many bytes have come.
    #[inline]
    pub(crate) fn came(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_add(bytes);
    }

    /// What was not read.
    #[inline]
    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    #[inline]
    pub(crate) fn inbox_mut(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// Corrects the sum of unread bytes by what has changed since the last time.
    #[inline]
    pub(crate) fn count(&mut self, sum: &mut usize) {
        let memory = self.inbox.memory();
        let before = core::mem::replace(&mut self.counted, memory);
        *sum = sum.saturating_sub(before).saturating_add(memory);
    }

    /// What the sum of unread bytes has of it.
    pub(crate) fn counted(&self) -> usize {
        self.counted
    }

    /// The window that was not given back.
    pub(crate) fn credit(&self) -> usize {
        self.credit
    }

    /// Takes the window that is to be given back.
    #[inline]
    pub(crate) fn take_credit(&mut self) -> usize {
        core::mem::take(&mut self.credit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_that_of_what_is_unread() {
        let (mut first, mut second, mut sum) = <(Intake, Intake, usize)>::default();
        for round in 1..20 {
            first.inbox_mut().push(&vec![0; 100 * round]);
            second.inbox_mut().push(&[0; 7]);
            first.count(&mut sum);
            second.count(&mut sum);
            first.count(&mut sum);
            assert_eq!(sum, first.inbox().memory() + second.inbox().memory());
            assert_eq!(sum, first.counted() + second.counted());
        }
        let taken = first.inbox_mut().take().unwrap();
        let len = taken.unread().len();
        first.inbox_mut().restore(taken, len, 0);
        first.count(&mut sum);
        assert_eq!((first.counted(), sum), (0, second.inbox().memory()));
    }

    #[test]
    fn a_window_is_given_back_once() {
        let mut intake = Intake::default();
        intake.came(5);
        intake.came(7);
        assert_eq!([intake.take_credit(), intake.take_credit()], [12, 0]);
        intake.came(1);
        assert_eq!(intake.take_credit(), 1);
    }
}
