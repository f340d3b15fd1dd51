//! The benchmark of Dubbo proxying: Meltemi beside Envoy's own `dubbo_proxy` and its plain `tcp_proxy`, in one Envoy process.
//!
//! What is compared is the CPU time that the Envoy process spends on a request, as the kernel counts it; throughput and
//! latency come along. The load generator ([`load`]) and the servers ([`backend`]) speak pre-encoded Dubbo frames
//! ([`frame`]), so that they cost little next to what they measure, and check that every answer is the one to its own request.
//! The proxies take turns, round after round, and the medians over the rounds are reported: what else the machine does
//! in the meantime then meets all of them alike.

use std::fmt;

pub mod backend;
pub mod frame;
pub mod load;
pub mod outbox;
pub mod plot;
pub mod proc;
pub mod report;
pub mod subject;

/// One of the proxies compared, each a listener of the same Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// Envoy's native `envoy.filters.network.dubbo_proxy`.
    Dubbo,
    /// Envoy's native `envoy.filters.network.tcp_proxy`: no protocol, one upstream connection per client connection.
    Tcp,
    /// Meltemi.
    Meltemi,
}

impl Proxy {
    /// All of them, the reference first.
    pub const ALL: [Self; 3] = [Self::Dubbo, Self::Tcp, Self::Meltemi];

    /// The name on the command line and in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dubbo => "dubbo_proxy",
            Self::Tcp => "tcp_proxy",
            Self::Meltemi => "meltemi",
        }
    }

    /// The name of its listener in `envoy-configs/dubbo.yaml`.
    #[must_use]
    pub fn listener(self) -> &'static str {
        match self {
            Self::Dubbo => "demo_dubbo_proxy",
            Self::Tcp => "demo_tcp_proxy",
            Self::Meltemi => "demo",
        }
    }
}

/// What is asked of a proxy at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Case {
    /// Client connections.
    pub clients: usize,
    /// Requests in flight on each of them, at every moment.
    pub in_flight: usize,
    /// Bytes in the string that each request carries, and each response.
    pub body: usize,
}

impl Case {
    /// The cases of the report. Those of 1 MiB keep at most 8 MiB in flight: what they measure is the cost of a byte.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let many = [(1, 1), (1, 32), (16, 8), (256, 1)];
        let few = [(1, 1), (1, 8), (8, 1)];
        let of = |body, shapes: &[(usize, usize)]| {
            shapes.iter().map(|&(clients, in_flight)| Self { clients, in_flight, body }).collect::<Vec<_>>()
        };
        [of(64, &many), of(16 << 10, &many), of(1 << 20, &few)].concat()
    }

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
        write!(f, "{} {}", self.shape(), self.size())
    }
}
