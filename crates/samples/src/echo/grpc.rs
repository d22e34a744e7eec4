//! The gRPC side: one unary method, its messages written by hand.
//!
//! ```proto
//! package ostro.samples.v1;
//! service Echo { rpc Echo(EchoRequest) returns (EchoReply); }
//! message EchoRequest { string message = 1; }
//! message EchoReply { string message = 1; string seen = 2; }
//! ```

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use super::http::{Port, account};

/// The method's path.
pub const PATH: &str = "/ostro.samples.v1.Echo/Echo";

/// What a caller says.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EchoRequest {
    /// Comes back as it is.
    #[prost(string, tag = "1")]
    pub message: String,
}

/// What it hears.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EchoReply {
    /// The request's message.
    #[prost(string, tag = "1")]
    pub message: String,
    /// The same JSON account of the request that HTTP callers get.
    #[prost(string, tag = "2")]
    pub seen: String,
}

pub async fn serve(
    State(port): State<Port>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Response, Infallible> {
    let seen = account(&port, from, &request).to_string();
    let mut grpc = Grpc::new(ProstCodec::<EchoReply, EchoRequest>::default());
    let response = grpc.unary(Echo { seen }, request).await;
    Ok(response.map(axum::body::Body::new))
}

struct Echo {
    seen: String,
}

impl UnaryService<EchoRequest> for Echo {
    type Response = EchoReply;
    type Future = Ready<Result<tonic::Response<EchoReply>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<EchoRequest>) -> Self::Future {
        let message = request.into_inner().message;
        ready(Ok(tonic::Response::new(EchoReply { message, seen: std::mem::take(&mut self.seen) })))
    }
}
