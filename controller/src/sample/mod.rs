//! Sample Dubbo servers and a client, on plain threads and sockets: what the demo puts on both sides of Envoy, and what
//! `meltemi sample` runs on its own.
//!
//! They speak through the same codec as the filter, and need no JDK.

mod client;
mod command;
mod load;
mod server;

pub use client::{Client, Reply};
pub use command::{Error, Options, run};
pub use server::Server;

use meltemi_codecs::dubbo::message::{Request, Value};

/// The interface that the sample servers serve.
pub const INTERFACE: &str = "org.meltemi.demo.Greeter";

/// The response attachment in which a sample server names itself.
pub const SERVED_BY: &str = "served-by";

/// A call of a method of [`INTERFACE`] that takes one string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// The method.
    pub method: &'a str,
    /// The argument.
    pub argument: &'a str,
    /// The attachments.
    pub attachments: &'a [(&'a str, &'a str)],
}

impl<'a> Call<'a> {
    /// A call of `method` for `argument`, without attachments.
    pub const fn new(method: &'a str, argument: &'a str) -> Self {
        Self { method, argument, attachments: &[] }
    }

    /// Appends the request frame, with the request id `id`.
    pub fn write(self, id: u64, out: &mut Vec<u8>) {
        let Self { method, argument, attachments } = self;
        let arguments = &[Value::from(argument)];
        Request { id, interface: INTERFACE, method, arguments, attachments, ..Request::default() }.write(out);
    }

    /// The call with these attachments.
    pub const fn with(self, attachments: &'a [(&'a str, &'a str)]) -> Self {
        Self { attachments, ..self }
    }
}
