//! The sockets against an independent implementation of HTTP/2, the `h2` crate, on both sides.

mod ends;
mod flow;
mod peer;
mod splice;
mod tunnel;
mod unary;
mod world;
