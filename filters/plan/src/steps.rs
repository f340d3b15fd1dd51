//! Counts what a search does, so that tests can hold it to its bound. Nothing is counted in the module.

/// What one search did.
#[cfg(any(test, feature = "fuzzing"))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    /// Look-ups and tests: each takes a bounded time.
    pub(super) taken: usize,
    /// Bytes of keys and prefixes that were compared.
    pub(super) compared: usize,
    /// Bytes of values that were read from end to end.
    pub(super) read: usize,
}

#[cfg(any(test, feature = "fuzzing"))]
thread_local! {
    static STEPS: core::cell::Cell<Steps> = core::cell::Cell::default();
}

/// Does `work`, and says what it took.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn count<T>(work: impl FnOnce() -> T) -> (T, Steps) {
    STEPS.set(Steps::default());
    let done = work();
    (done, STEPS.take())
}

/// A look-up or a test.
#[inline]
pub(super) fn take() {
    add(1, 0, 0);
}

/// So many bytes of a key or a prefix are compared.
#[inline]
pub(super) fn compare(bytes: usize) {
    add(0, bytes, 0);
}

/// A value of so many bytes is read from end to end.
#[inline]
pub(super) fn read(bytes: usize) {
    add(0, 0, bytes);
}

#[cfg(any(test, feature = "fuzzing"))]
fn add(taken: usize, compared: usize, read: usize) {
    let steps = STEPS.get();
    STEPS.set(Steps {
        taken: steps.taken.saturating_add(taken),
        compared: steps.compared.saturating_add(compared),
        read: steps.read.saturating_add(read),
    });
}

#[cfg(not(any(test, feature = "fuzzing")))]
#[inline]
fn add(_: usize, _: usize, _: usize) {}
