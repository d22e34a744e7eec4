//! A connection, as far as choosing its fate needs to know it.

use std::net::{IpAddr, SocketAddr};

/// A connection that has been accepted and has said its first bytes.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Where it was going, before any redirection.
    pub destination: SocketAddr,
    /// Who it is from, after PROXY protocol.
    pub source: SocketAddr,
    /// Address of the peer at the other end of the socket.
    pub direct_source: IpAddr,
    /// What its first bytes are.
    pub opening: Opening<'a>,
}

/// The first bytes of a connection. What of it a listener sees depends on its inspectors.
#[derive(Clone, Copy, Debug)]
pub enum Opening<'a> {
    /// A TLS ClientHello.
    Tls(ClientHello<'a>),
    /// An HTTP request in plaintext.
    Http(HttpVersion),
    /// Something else, or nothing until the inspectors gave up.
    Other,
}

/// What a ClientHello says in clear.
#[derive(Clone, Copy, Debug)]
pub struct ClientHello<'a> {
    /// Server name; empty if it sent none.
    pub server_name: &'a str,
    /// Application protocols offered, in the client's order.
    pub protocols: &'a [&'a str],
}

/// HTTP versions an inspector tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2 with prior knowledge.
    Http2,
}
