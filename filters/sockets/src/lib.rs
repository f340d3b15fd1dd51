//! HTTP/2 as sockets.
