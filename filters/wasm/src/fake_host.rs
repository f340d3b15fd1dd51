//! A host for native tests: the functions that Envoy would give, over thread-local state.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::host::{Buffer, MetricKind};

/// What the fake host holds.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) buffers: BTreeMap<u32, Vec<u8>>,
    pub(crate) metrics: Vec<(String, i64)>,
    /// Which of the metrics are gauges.
    pub(crate) gauges: BTreeSet<u32>,
    pub(crate) log: Vec<(u32, String)>,
    pub(crate) closed: bool,
    pub(crate) shared: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    /// What others do once, after the next look at what is shared.
    pub(crate) meanwhile: Option<Box<dyn FnOnce()>>,
    /// Nanoseconds by a clock that nobody sets, if there is one.
    pub(crate) uptime: Option<u64>,
    /// Nanoseconds that go by with each look at that clock.
    pub(crate) pace: u64,
    /// The tick periods that were asked for, in milliseconds.
    pub(crate) ticks: Vec<u32>,
    /// Whether replacing a buffer is refused, as after the connection is gone.
    pub(crate) refuses: bool,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

/// Looks at the host, or changes it.
pub(crate) fn with<T>(look: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(look)
}

/// Sets a buffer's bytes; says how many they are.
pub(crate) fn set(buffer: Buffer, bytes: &[u8]) -> usize {
    with(|host| host.buffers.insert(buffer as u32, bytes.to_vec()));
    bytes.len()
}

/// The bytes of a buffer.
pub(crate) fn get(buffer: Buffer) -> Vec<u8> {
    with(|host| host.buffers.get(&(buffer as u32)).cloned().unwrap_or_default())
}

/// The value of a metric, by its full name.
pub(crate) fn metric(name: &str) -> Option<i64> {
    with(|host| host.metrics.iter().find(|(known, _)| known == name).map(|(_, value)| *value))
}

const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const CAS_MISMATCH: u32 = 8;
/// WASI's.
const ENOTSUP: u32 = 58;

/// Gives bytes to the module as the host does: in memory that the module allocated.
unsafe fn hand_over(bytes: Vec<u8>, data: *mut *mut u8, size: *mut usize) -> u32 {
    let bytes = bytes.into_boxed_slice();
    unsafe {
        *size = bytes.len();
        *data = Box::into_raw(bytes).cast::<u8>();
    }
    0
}

unsafe fn text(data: *const u8, length: usize) -> String {
    String::from_utf8_lossy(unsafe { core::slice::from_raw_parts(data, length) }).into_owned()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_buffer_bytes(
    kind: u32,
    start: usize,
    max: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    let bytes = with(|host| host.buffers.get(&kind).cloned());
    match bytes {
        Some(bytes) => unsafe { hand_over(bytes.into_iter().skip(start).take(max).collect(), data, size) },
        None => NOT_FOUND,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_buffer_bytes(
    kind: u32,
    start: usize,
    size: usize,
    data: *const u8,
    length: usize,
) -> u32 {
    with(|host| {
        let buffer = host.buffers.entry(kind).or_default();
        if start != 0 || size > buffer.len() || host.refuses {
            return BAD_ARGUMENT;
        }
        buffer.splice(..size, unsafe { core::slice::from_raw_parts(data, length) }.iter().copied());
        0
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32 {
    unsafe { *time = 1_000_000_000 };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clock_time_get(clock: u32, _: u64, time: *mut u64) -> u32 {
    let look = |host: &mut Host| {
        host.uptime = host.uptime.map(|uptime| uptime.saturating_add(host.pace));
        host.uptime
    };
    match with(look).filter(|_| clock == 1) {
        Some(uptime) => {
            unsafe { *time = uptime };
            0
        }
        None => ENOTSUP,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_define_metric(kind: u32, name: *const u8, length: usize, id: *mut u32) -> u32 {
    let name = unsafe { text(name, length) };
    with(|host| {
        let number = host.metrics.len() as u32;
        unsafe { *id = number };
        host.metrics.push((name, 0));
        if kind == MetricKind::Gauge as u32 {
            host.gauges.insert(number);
        }
    });
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_increment_metric(id: u32, offset: i64) -> u32 {
    with(|host| {
        let value = &mut host.metrics[id as usize].1;
        *value = value.saturating_add(offset);
    });
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_record_metric(id: u32, value: u64) -> u32 {
    if with(|host| host.gauges.contains(&id)) {
        with(|host| host.metrics[id as usize].1 = value.cast_signed());
        return 0;
    }
    proxy_increment_metric(id, value.cast_signed())
}

#[unsafe(no_mangle)]
extern "C" fn proxy_close_stream(_: u32) -> u32 {
    with(|host| host.closed = true);
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_property(_: *const u8, _: usize, data: *mut *mut u8, size: *mut usize) -> u32 {
    unsafe { hand_over(b"meltemi".to_vec(), data, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_log(level: u32, message: *const u8, length: usize) -> u32 {
    let message = unsafe { text(message, length) };
    with(|host| host.log.push((level, message)));
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_tick_period_milliseconds(period: u32) -> u32 {
    with(|host| host.ticks.push(period));
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_shared_data(
    key: *const u8,
    length: usize,
    data: *mut *mut u8,
    size: *mut usize,
    cas: *mut u32,
) -> u32 {
    let key = unsafe { core::slice::from_raw_parts(key, length) };
    let (found, meanwhile) = with(|host| (host.shared.get(key).cloned(), host.meanwhile.take()));
    if let Some(act) = meanwhile {
        act();
    }
    match found {
        Some((bytes, change)) => unsafe {
            *cas = change;
            hand_over(bytes, data, size)
        },
        None => NOT_FOUND,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_shared_data(
    key: *const u8,
    length: usize,
    data: *const u8,
    size: usize,
    cas: u32,
) -> u32 {
    let (key, bytes) =
        unsafe { (core::slice::from_raw_parts(key, length), core::slice::from_raw_parts(data, size)) };
    with(|host| {
        if cas != 0 && host.shared.get(key).is_some_and(|(_, change)| *change != cas) {
            return CAS_MISMATCH;
        }
        let change = host.shared.values().map(|(_, change)| *change).max().unwrap_or(0).saturating_add(1);
        host.shared.insert(key.to_vec(), (bytes.to_vec(), change));
        0
    })
}
