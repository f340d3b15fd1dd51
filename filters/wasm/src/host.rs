//! Envoy's side of the Proxy-Wasm ABI, as far as a network filter needs it.
//!
//! An SDK's wrappers would panic on any status that they do not expect, and a panic takes every connection of an Envoy
//! worker with it. These never do: a refused call is a value.
#![allow(unsafe_code)]

use core::time::Duration;

use meltemi_proxy::Instant;

/// A buffer of Envoy's that the filter reads or replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Buffer {
    /// Bytes from tcp_proxy, on their way to the connection manager.
    Downstream = 2,
    /// Bytes from the connection manager, on their way to tcp_proxy.
    Upstream = 3,
    /// The plugin's configuration.
    Configuration = 7,
}

/// A kind of metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum MetricKind {
    Counter = 0,
    Gauge = 1,
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Level {
    Debug = 1,
    Info = 2,
    Warn = 3,
    Error = 4,
    Critical = 5,
}

/// The status with which the host says that all went well.
const OK: u32 = 0;

unsafe extern "C" {
    fn proxy_get_buffer_bytes(
        kind: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_buffer_bytes(kind: u32, start: usize, size: usize, data: *const u8, length: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, length: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_close_stream(kind: u32) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        length: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, length: usize, data: *const u8, size: usize, cas: u32) -> u32;
    fn proxy_log(level: u32, message: *const u8, length: usize) -> u32;
    fn proxy_get_property(path: *const u8, length: usize, data: *mut *mut u8, size: *mut usize) -> u32;
}

#[cfg_attr(target_family = "wasm", link(wasm_import_module = "wasi_snapshot_preview1"))]
unsafe extern "C" {
    /// [WASI](https://github.com/WebAssembly/WASI/blob/snapshot-01/phases/snapshot/docs.md#clock_time_get).
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
}

/// Takes ownership of memory that the host had this module allocate.
fn owned(data: *mut u8, size: usize) -> Vec<u8> {
    if data.is_null() || size == 0 {
        return Vec::new();
    }
    // SAFETY: the host got `data` from `proxy_on_memory_allocate`, as a slice of exactly this length, and has filled it;
    // nobody else keeps it.
    unsafe { Vec::from_raw_parts(data, size, size) }
}

/// The first `size` bytes of a buffer; fewer if it has fewer.
pub(crate) fn buffer(kind: Buffer, size: usize) -> Vec<u8> {
    let (mut data, mut length) = (core::ptr::null_mut(), 0);
    // SAFETY: both pointers are to live locals.
    let status = unsafe { proxy_get_buffer_bytes(kind as u32, 0, size, &mut data, &mut length) };
    if status == OK { owned(data, length) } else { Vec::new() }
}

/// Replaces the first `size` bytes of a buffer; whether the host did.
pub(crate) fn replace(kind: Buffer, size: usize, bytes: &[u8]) -> bool {
    // SAFETY: the host copies `bytes` before it returns.
    unsafe { proxy_set_buffer_bytes(kind as u32, 0, size, bytes.as_ptr(), bytes.len()) == OK }
}

/// The time that deadlines follow: setting the clock of the machine does not change it, where the host has such a time.
pub(crate) fn now() -> Instant {
    Instant::from_nanos(monotonic_time().unwrap_or_else(wall_time))
}

/// Nanoseconds since some moment in the past, if the host counts them.
pub(crate) fn monotonic_time() -> Option<u64> {
    const MONOTONIC: u32 = 1;
    let mut time = 0;
    // SAFETY: the pointer is to a live local.
    let errno = unsafe { clock_time_get(MONOTONIC, 0, &mut time) };
    (errno == 0).then_some(time)
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn wall_time() -> u64 {
    let mut time = 0;
    // SAFETY: the pointer is to a live local; a refusal leaves it at 0.
    unsafe { proxy_get_current_time_nanoseconds(&mut time) };
    time
}

/// Defines a metric, or finds the one of that name.
pub(crate) fn define_metric(kind: MetricKind, name: &str) -> Option<u32> {
    let mut id = 0;
    // SAFETY: the pointers are to live data; the host copies the name.
    let status = unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut id) };
    (status == OK).then_some(id)
}

/// Adds to a counter (`offset` over 0) or a gauge.
pub(crate) fn increment_metric(id: u32, offset: i64) {
    // SAFETY: plain values; an unknown id is refused by the host.
    unsafe { proxy_increment_metric(id, offset) };
}

/// Sets a gauge.
pub(crate) fn set_gauge(id: u32, value: u64) {
    // SAFETY: plain values; an unknown id is refused by the host.
    unsafe { proxy_record_metric(id, value) };
}

/// Adds 0 to a counter, which an increment cannot. Envoy leaves out of some reports what was never counted.
pub(crate) fn count_nothing(id: u32) {
    // SAFETY: plain values; an unknown id is refused by the host.
    unsafe { proxy_record_metric(id, 0) };
}

/// Writes a line to the host's log.
pub(crate) fn log(level: Level, line: &str) {
    // SAFETY: the host copies the line before it returns.
    unsafe { proxy_log(level as u32, line.as_ptr(), line.len()) };
}

/// Closes the connection of the current context, after what is written to it.
pub(crate) fn close() {
    const DOWNSTREAM: u32 = 2;
    // SAFETY: a plain value.
    unsafe { proxy_close_stream(DOWNSTREAM) };
}

/// A property of the host's, by its path.
pub(crate) fn property(name: &str) -> Option<Vec<u8>> {
    let (mut data, mut length) = (core::ptr::null_mut(), 0);
    // SAFETY: all pointers are to live data.
    let status = unsafe { proxy_get_property(name.as_ptr(), name.len(), &mut data, &mut length) };
    (status == OK).then(|| owned(data, length))
}

/// Lets the host call `on_tick` of the current root context so often.
pub(crate) fn tick_every(period: Duration) {
    let millis = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: a plain value.
    unsafe { proxy_set_tick_period_milliseconds(millis) };
}

/// What all VMs of the same id share under `key`, and the number of the change that put it there.
pub(crate) fn shared_data(key: &[u8]) -> Option<(Vec<u8>, u32)> {
    let (mut data, mut size, mut cas) = (core::ptr::null_mut(), 0, 0);
    // SAFETY: all pointers are to live data.
    let status = unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), &mut data, &mut size, &mut cas) };
    (status == OK).then(|| (owned(data, size), cas))
}

/// The number of no change: what takes its place is shared only where nothing was.
pub(crate) const NO_CHANGE: u32 = u32::MAX;

/// Shares `bytes` under `key` in the place of what `change` put there, or of anything if that is 0; whether it did.
pub(crate) fn set_shared_data(key: &[u8], bytes: &[u8], change: u32) -> bool {
    // SAFETY: the host copies key and bytes before it returns.
    unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), bytes.as_ptr(), bytes.len(), change) == OK }
}
