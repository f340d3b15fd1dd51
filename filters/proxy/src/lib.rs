//! The layer-7 proxy: plan, routes, calls, upstream pools, retries, telemetry. Sans-IO: time is an argument, bytes go
//! into caller-owned buffers, and nothing here knows of Envoy.
//!
//! A [`Worker`] is all of it for one Envoy worker: [`Worker::receive`] takes what one side sent, and
//! [`Worker::transmit`] appends what may be written to the other.
#![forbid(unsafe_code)]
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod alarms;
mod arena;
mod asking;
mod budget;
mod calls;
mod client;
mod clock;
mod deadlines;
mod detection;
mod dispatch;
mod download;
mod endpoints;
mod exploration;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod hashing;
mod hedging;
mod inbox;
mod inquiries;
mod intake;
mod leaving;
mod limiting;
mod line_limit;
mod lines;
mod loggers;
mod matching;
mod net;
mod outliers;
mod peers;
mod policy;
mod pool;
mod pools;
mod queue;
mod relays;
mod reply;
mod reports;
mod retiring;
mod room;
mod slots;
mod source;
mod spans;
mod start;
mod streams;
mod sweep;
mod taps;
mod telemetry;
mod tracing;
mod trial;
mod unread;
mod upload;
mod upstream;
mod waiting;
mod worker;

#[doc(inline)]
pub use meltemi_plan as plan;

pub use budget::Budget;
pub use clock::Instant;
pub use files::Leftovers;
pub use policy::{Grant, Ledger, Level, OwnLedger};
pub use reports::{Counters, Reports, Way, Workload, flags, labels, push_label};
pub use taps::{Tapped, Told};
pub use telemetry::{Class, DRY_RUN_DENIED, LATENCY_BUCKETS, Label, Labels, LocalReply, Metric, Names, Sink};
pub use unread::LEAST_UNREAD;
pub use worker::Worker;
