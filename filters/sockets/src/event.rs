use crate::{Side, SocketId};

/// What happened, as [`Sockets::receive`](crate::Sockets::receive) reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A client connection arrived. Answer with [`accept`](crate::Sockets::accept) or
    /// [`reject`](crate::Sockets::reject); what is written before leaves after the `accept`.
    Accepted {
        /// The new socket, of [`Side::Downstream`].
        id: SocketId,
        /// What the tunnel says of the connection.
        accept: Accept,
    },
    /// A connection that [`connect`](crate::Sockets::connect) began is open.
    Connected {
        /// The socket.
        id: SocketId,
        /// The endpoint that Envoy chose, `ip:port`, from `x-meltemi-host`.
        endpoint: Option<String>,
        /// All other fields of the answer, names in lower case.
        headers: Vec<(String, String)>,
    },
    /// A connection that [`connect`](crate::Sockets::connect) began did not open. The id is stale.
    Refused {
        /// The socket that will not be.
        id: SocketId,
        /// The HTTP status of the answer; 0 when the stream was reset, or the peer is going away.
        status: u16,
        /// The endpoint that failed, `ip:port`, where Envoy named it: `x-meltemi-session` decoded, else
        /// `x-meltemi-host`.
        endpoint: Option<String>,
        /// The body of the answer, at most [`Options::max_reason`](crate::Options::max_reason) bytes of it.
        reason: String,
    },
    /// Bytes arrived. They borrow from the input; give their number to
    /// [`consumed`](crate::Sockets::consumed) once they need no memory any more.
    Data {
        /// The socket.
        id: SocketId,
        /// The bytes, never none.
        bytes: &'a [u8],
    },
    /// The peer will send no more (half-close). Writes still work. If this side has finished too, the id becomes
    /// stale once what is queued has left.
    Ended {
        /// The socket.
        id: SocketId,
    },
    /// The socket is gone in both directions, the id is stale. Code 0 after [`Ended`](Self::Ended) is how Envoy closes
    /// a connection whose peer closed cleanly.
    Reset {
        /// The socket that was.
        id: SocketId,
        /// The error code of the RST_STREAM.
        code: u32,
    },
    /// Fewer than [`Options::write_low`](crate::Options::write_low) bytes are queued, after there had been at least
    /// [`Options::write_high`](crate::Options::write_high).
    Writable {
        /// The socket.
        id: SocketId,
    },
    /// An alarm rings. One that could not be set by Envoy (no such route, say) rings at once.
    Alarm,
    /// A unary request is over, the id is stale.
    Response {
        /// The request's socket.
        id: SocketId,
        /// The HTTP status; 0 when the stream was reset or the peer is going away.
        status: u16,
        /// The fields of the head, names in lower case, pseudo-header fields left out.
        headers: Vec<(String, String)>,
        /// The body, at most [`Options::max_response_body`](crate::Options::max_response_body) bytes of it.
        body: Vec<u8>,
        /// The trailers, where gRPC has its status (an answer without a body has it in `headers`).
        trailers: Vec<(String, String)>,
    },
    /// The peer sent GOAWAY: it will soon be gone, and existing sockets live on until then. Upstream, after a GOAWAY that
    /// names the last stream that is served, no more connections can be opened, and those that it will not serve are
    /// refused; the notice that comes before it leaves some seconds.
    GoingAway {
        /// Which peer.
        side: Side,
    },
}

/// What a tunnel from tcp_proxy says of the client connection in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accept {
    /// `:authority`, tcp_proxy's `tunneling_config.hostname`: the service.
    pub authority: String,
    /// `x-meltemi-cluster`: the cluster that Envoy would have used by itself.
    pub cluster: Option<String>,
    /// `x-meltemi-peer`: the client's address.
    pub peer: Option<String>,
    /// All other fields in their order, names in lower case, pseudo-header fields left out.
    pub headers: Vec<(String, String)>,
}

/// Where [`connect`](crate::Sockets::connect) connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Target<'a> {
    /// The Envoy cluster, sent as `x-meltemi-cluster`.
    pub cluster: &'a str,
    /// One endpoint of the cluster, `ip:port`, sent as `x-meltemi-session` in base64; `None` lets Envoy choose.
    pub endpoint: Option<&'a str>,
    /// Further fields, names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
}

/// A unary HTTP or gRPC request through the connection manager, for [`request`](crate::Sockets::request).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Request<'a> {
    /// `:method`.
    pub method: &'a str,
    /// `:scheme`.
    pub scheme: &'a str,
    /// `:authority`, by which the connection manager's routes choose.
    pub authority: &'a str,
    /// `:path`.
    pub path: &'a str,
    /// The Envoy cluster, sent as `x-meltemi-cluster` for routes with `cluster_header`.
    pub cluster: Option<&'a str>,
    /// Further fields, names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; for gRPC with its 5-byte prefix.
    pub body: &'a [u8],
}
