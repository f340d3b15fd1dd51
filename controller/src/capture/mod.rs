//! Captures of packets: what each side of a TCP connection sent, from the files of tcpdump and Wireshark.

mod connections;
mod packets;
mod segment;
mod stream;

pub use connections::{Connections, Counts, End, Event, Listener, Pair, Told};
pub use packets::{Error, is_capture, read};
pub use segment::Segment;
