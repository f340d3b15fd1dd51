//! Thrift through a real Envoy: raw peers in every form of message, and the libraries that people use.
mod peers;
mod raw;
