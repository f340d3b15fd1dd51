//! A worker between simulated peers: tcp_proxy with clients on one side, the connection manager with servers on the
//! other, byte by byte and under a virtual clock.

mod clients;
mod destinations;
mod dubbo;
mod heads;
mod http2;
mod limiter;
mod random;
mod scene;
mod servers;
mod siege;
mod sources;
mod toy;
mod wire;
mod world;

mod access_log;
mod authorization;
mod balancing;
mod budget;
mod chaos;
mod closing;
mod cut_through;
mod deadlines;
mod detection;
mod fairness;
mod global_limits;
mod hostile;
mod mirrors;
mod mixups;
mod months;
mod pinned;
mod pipelining;
mod policies;
mod pressure;
mod protection;
mod protocols;
mod relays;
mod renewal;
mod reports;
mod retries;
mod routing;
mod streams;
mod timeouts;
mod torn_frames;
mod values;
