//! The benchmark: Meltemi beside Envoy's own proxies of the same protocols and its plain `tcp_proxy`.
//!
//! What is compared is the CPU time that the Envoy process spends on a request, as the kernel counts it; throughput and
//! latency come along. The load generator ([`load`]) and the servers ([`backend`]) speak frames that are made once
//! ([`frame`]), so that they cost little next to what they measure, and check that every answer is the one to its own request.
//! What is compared takes turns, round after round, and the medians over the rounds are reported: what else the machine does
//! in the meantime then meets all of it alike.

use std::fmt;

use meltemi_codecs::{Brpc, Codec, Dubbo, Thrift, Trpc};

pub mod backend;
pub mod frame;
pub mod idle;
pub mod load;
pub mod markdown;
pub mod outbox;
pub mod pass_through;
pub mod plot;
pub mod proc;
pub mod report;
pub mod sink;
pub mod subject;
pub mod updates;
pub mod wide;

/// A protocol that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Dubbo 2, with bodies of all sizes.
    Dubbo,
    /// Thrift, framed and binary.
    Thrift,
    /// brpc's `baidu_std`.
    Brpc,
    /// tRPC.
    Trpc,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Dubbo, Self::Thrift, Self::Brpc, Self::Trpc];

    /// The name on the command line, in the report and in plans.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dubbo => "dubbo",
            Self::Thrift => "thrift",
            Self::Brpc => "brpc",
            Self::Trpc => "trpc",
        }
    }

    /// Its codec.
    #[must_use]
    pub fn codec(self) -> &'static dyn Codec {
        match self {
            Self::Dubbo => &Dubbo,
            Self::Thrift => &Thrift,
            Self::Brpc => &Brpc,
            Self::Trpc => &Trpc,
        }
    }

    /// The proxies that can carry it, the one that others are compared with first: Envoy's own of this protocol if it has
    /// one, else plain TCP.
    #[must_use]
    pub fn proxies(self) -> &'static [Proxy] {
        match self {
            Self::Dubbo => &[Proxy::Native, Proxy::Tcp, Proxy::PassThrough, Proxy::Meltemi],
            Self::Thrift => &[Proxy::Native, Proxy::Tcp, Proxy::Meltemi],
            Self::Brpc | Self::Trpc => &[Proxy::Tcp, Proxy::Meltemi],
        }
    }

    /// The cases of the report. Those of 1 MiB keep at most 8 MiB in flight: what they measure is the cost of a byte, which
    /// depends on no protocol.
    #[must_use]
    pub fn cases(self) -> Vec<Case> {
        let of = |body, shapes: &[(usize, usize)]| {
            let case = |&(clients, in_flight)| Case { protocol: self, clients, in_flight, body };
            shapes.iter().map(case).collect::<Vec<_>>()
        };
        let many = [(1, 1), (1, 32), (16, 8), (256, 1)];
        let few = [(1, 1), (1, 8), (8, 1)];
        match self {
            Self::Dubbo => [of(64, &many), of(16 << 10, &many), of(1 << 20, &few)].concat(),
            Self::Thrift | Self::Brpc | Self::Trpc => of(64, &[(1, 32), (64, 1)]),
        }
    }
}

/// One of the proxies compared, each a listener of the same Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// Envoy's native proxy of the protocol, such as `envoy.filters.network.dubbo_proxy`.
    Native,
    /// Envoy's native `envoy.filters.network.tcp_proxy`: no protocol, one upstream connection per client connection.
    Tcp,
    /// The same tunnel as Meltemi's, with a module that lets bytes pass unread: no protocol, one upstream connection per
    /// client connection.
    PassThrough,
    /// Meltemi.
    Meltemi,
}

impl Proxy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Native, Self::Tcp, Self::PassThrough, Self::Meltemi];

    /// The name in the report.
    #[must_use]
    pub fn name(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Self::Native, Protocol::Thrift) => "thrift_proxy",
            (Self::Native, _) => "dubbo_proxy",
            (Self::Tcp, _) => "tcp_proxy",
            (Self::PassThrough, _) => "pass-through",
            (Self::Meltemi, _) => "meltemi",
        }
    }

    /// The name of its listener in the configuration.
    #[must_use]
    pub fn listener(self, protocol: Protocol) -> String {
        match self {
            Self::Meltemi => "demo".to_owned(),
            _ => format!("demo_{}", self.name(protocol)),
        }
    }
}

/// What is asked of a proxy at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Case {
    /// What the calls are written in.
    pub protocol: Protocol,
    /// Client connections.
    pub clients: usize,
    /// Requests in flight on each of them, at every moment.
    pub in_flight: usize,
    /// Bytes in the string that each request carries, and each response.
    pub body: usize,
}

impl Case {
    /// Clients by requests in flight: `16x8`.
    #[must_use]
    pub fn shape(&self) -> String {
        format!("{}x{}", self.clients, self.in_flight)
    }

    /// The size of the body, for people: `16 KiB`.
    #[must_use]
    pub fn size(&self) -> String {
        match self.body {
            0..1024 => format!("{} B", self.body),
            1024..1_048_576 => format!("{} KiB", self.body >> 10),
            _ => format!("{} MiB", self.body >> 20),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.protocol.name(), self.shape(), self.size())
    }
}
