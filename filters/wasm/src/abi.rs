//! The module's side of the Proxy-Wasm ABI: what Envoy calls, as far as a network filter needs it.
//!
//! The SDK has the same for filters of every kind, with what it takes to keep calls over HTTP and gRPC: a twentieth of the
//! module. And it panics on any call that it does not expect.
#![allow(unsafe_code)]

use std::cell::RefCell;

use meltemi_codecs::Codecs;
use meltemi_sockets::Side;

use crate::logger;
use crate::root::Root;
use crate::stream::Stream;

/// What Envoy has made in this VM, by its numbers.
#[derive(Default)]
struct Contexts {
    /// The protocols, which are one list for all of a VM: connections outlive the root that they came by.
    codecs: Codecs,
    roots: ByNumber<Root>,
    streams: ByNumber<Stream>,
}

/// Things by Envoy's numbers, which grow, in their order. There are few: all client connections of a worker are streams of
/// one. In boxes, so that all kinds are the same code.
struct ByNumber<T>(Vec<(u32, Box<T>)>);

impl<T> Default for ByNumber<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByNumber<T> {
    fn find(&self, number: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |(known, _)| *known)
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let at = self.find(number).ok()?;
        self.0.get_mut(at).map(|(_, thing)| &mut **thing)
    }

    /// Puts it in the place of what has the number.
    fn insert(&mut self, number: u32, thing: Box<T>) {
        self.remove(number);
        let at = self.0.partition_point(|(known, _)| *known < number);
        self.0.insert(at, (number, thing));
    }

    fn remove(&mut self, number: u32) {
        if let Ok(at) = self.find(number) {
            self.0.remove(at);
        }
    }
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::default();
}

/// What Envoy is to do with a connection: go on.
const CONTINUE: u32 = 0;

/// What a module does when it is loaded.
pub(crate) fn start(codecs: Codecs) {
    logger::start();
    with(|contexts| contexts.codecs = codecs);
}

/// Envoy calls nothing while it is called, so that nobody else has the contexts. If it did, that call would come to
/// nothing.
fn with<T: Default>(act: impl FnOnce(&mut Contexts) -> T) -> T {
    CONTEXTS
        .with(|contexts| contexts.try_borrow_mut().map(|mut contexts| act(&mut contexts)).unwrap_or_default())
}

/// Has a connection handle what came from one of its sides.
fn carry(id: u32, from: Side, size: usize) -> u32 {
    with(|contexts| {
        if let Some(stream) = contexts.streams.get_mut(id) {
            stream.carry(from, size);
        }
    });
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Memory for what Envoy gives, which is a `Vec<u8>` of that capacity in the end.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::into_raw(Box::<[u8]>::new_uninit_slice(size)).cast()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, root: u32) {
    with(|contexts| match contexts.roots.get_mut(root) {
        Some(root) => {
            contexts.streams.insert(id, Box::new(root.stream()));
        }
        None if root == 0 => {
            contexts.roots.insert(id, Box::new(Root::new(contexts.codecs.clone())));
        }
        None => log::error!("meltemi: a connection of the configuration {root}, which does not exist"),
    });
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_: u32, _: usize) -> bool {
    true
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(id: u32, size: usize) -> bool {
    with(|contexts| contexts.roots.get_mut(id).is_some_and(|root| root.configure(size)))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(id: u32) {
    with(|contexts| {
        if let Some(root) = contexts.roots.get_mut(id) {
            root.look();
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_data(id: u32, size: usize, _: bool) -> u32 {
    carry(id, Side::Downstream, size)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_upstream_data(id: u32, size: usize, _: bool) -> u32 {
    carry(id, Side::Upstream, size)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_connection_close(id: u32, _: u32) {
    with(|contexts| {
        if let Some(stream) = contexts.streams.get_mut(id) {
            stream.close();
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    with(|contexts| {
        contexts.streams.remove(id);
        contexts.roots.remove(id);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_host as host;
    use crate::host::Buffer;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    /// A configuration that is empty.
    fn configure(id: u32) {
        host::set(Buffer::Configuration, b"");
        proxy_on_context_create(id, 0);
        assert!(proxy_on_vm_start(id, 0) && proxy_on_configure(id, 0));
    }

    #[test]
    fn connections_outlive_the_configuration_that_they_came_by() {
        start(Codecs::all());
        configure(1);
        proxy_on_context_create(2, 1);
        let size = host::set(Buffer::Downstream, PREFACE);
        assert_eq!(proxy_on_downstream_data(2, size, false), CONTINUE);
        assert!(host::get(Buffer::Downstream).starts_with(&PREFACE[..24]));
        configure(3);
        proxy_on_delete(1);
        host::set(Buffer::Upstream, b"");
        assert_eq!(proxy_on_upstream_data(2, 0, false), CONTINUE);
        assert_eq!(host::get(Buffer::Upstream).get(3), Some(&4), "SETTINGS for tcp_proxy");
        proxy_on_tick(3);
        proxy_on_downstream_connection_close(2, 1);
        proxy_on_delete(2);
        assert!(!host::with(|host| host.closed));
        with(|contexts| assert_eq!((contexts.roots.0.len(), contexts.streams.0.len()), (1, 0)));
    }

    #[test]
    fn what_does_not_exist_is_passed_over() {
        start(Codecs::all());
        proxy_on_context_create(2, 1);
        assert!(!proxy_on_configure(1, 0));
        proxy_on_tick(1);
        assert_eq!(proxy_on_downstream_data(2, 9, false), CONTINUE);
        proxy_on_downstream_connection_close(2, 1);
        proxy_on_delete(2);
        let log = host::with(|host| host.log.clone());
        assert!(log.iter().any(|(_, line)| line.contains("does not exist")), "{log:?}");
    }

    /// A CONNECT for the service `demo` on stream 1: two literals that are not indexed.
    const CONNECT: &[u8] = b"\0\0\x0f\x01\x04\0\0\0\x01\x02\x07CONNECT\x01\x04demo";

    /// A connection with a client of a service.
    fn connect(id: u32, root: u32) {
        proxy_on_context_create(id, root);
        let size = host::set(Buffer::Downstream, &[PREFACE, CONNECT].concat());
        proxy_on_downstream_data(id, size, false);
    }

    /// A configuration with one service.
    fn configure_demo(id: u32) {
        let size = host::set(Buffer::Configuration, br#"{"services": {"demo": {"protocol": "dubbo"}}}"#);
        proxy_on_context_create(id, 0);
        assert!(proxy_on_configure(id, size));
    }

    fn clients() -> i64 {
        host::with(|host| {
            let gauge = |(name, value): &(String, i64)| name.contains("connections_active").then_some(*value);
            host.metrics.iter().filter_map(gauge).sum()
        })
    }

    #[test]
    fn what_is_deleted_or_replaced_without_a_close_is_closed() {
        start(Codecs::all());
        configure_demo(1);
        connect(2, 1);
        assert_eq!(clients(), 1);
        proxy_on_delete(2);
        assert_eq!(clients(), 0);
        connect(3, 1);
        connect(3, 1);
        assert_eq!(clients(), 1);
        proxy_on_delete(3);
        assert_eq!(clients(), 0);
    }

    #[test]
    fn what_comes_after_the_close_is_left_alone() {
        start(Codecs::all());
        configure_demo(1);
        connect(2, 1);
        proxy_on_downstream_connection_close(2, 1);
        let size = host::set(Buffer::Downstream, PREFACE);
        assert_eq!(proxy_on_downstream_data(2, size, false), CONTINUE);
        assert_eq!(host::get(Buffer::Downstream), PREFACE);
        proxy_on_downstream_connection_close(2, 1);
        proxy_on_delete(2);
        assert_eq!(clients(), 0);
    }

    #[test]
    fn memory_that_envoy_fills_is_given_back() {
        let bytes = proxy_on_memory_allocate(5);
        // SAFETY: it has five bytes, and the `Vec` is its only owner.
        let bytes = unsafe {
            bytes.copy_from(b"meltemi".as_ptr(), 5);
            Vec::from_raw_parts(bytes, 5, 5)
        };
        assert_eq!(bytes, b"melte");
    }
}
