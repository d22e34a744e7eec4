//! Network filters and the transport socket of a filter chain: what a connection is for.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::http;
use envoy_types::pb::envoy::extensions::filters::network;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use envoy_types::pb::google::protobuf::Any;

use crate::refusal::{Within, is, unpack};
use crate::{Refusal, RouteTable, Weighted};

/// What the last network filter of a chain does with a connection.
#[derive(Clone, Debug)]
pub enum Terminal {
    /// Closes it: there is no filter.
    Close,
    /// Carries its bytes to a cluster.
    Tcp(TcpProxy),
    /// Reads HTTP from it.
    Http(Box<HttpManager>),
}

/// A network filter before the last, as data.
#[derive(Clone, Debug)]
pub struct NetworkFilter {
    /// Name in xDS.
    pub name: String,
    /// Configuration, of a supported type.
    pub config: Any,
}

/// Bytes carried to a cluster.
#[derive(Clone, Debug)]
pub struct TcpProxy {
    clusters: Weighted,
    /// The message without its clusters: timeouts, access logs.
    pub rest: Box<tcp::TcpProxy>,
}

/// An HTTP connection manager.
#[derive(Clone, Debug)]
pub struct HttpManager {
    /// Which HTTP it reads.
    pub codec: Codec,
    /// Where its routes are.
    pub routes: Routes,
    /// HTTP filters in order, the router last.
    pub filters: Vec<HttpFilter>,
    /// The message without routes and filters: header handling, limits, timeouts, access logs.
    pub rest: Box<hcm::HttpConnectionManager>,
}

/// Which HTTP a manager reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Either, by the first bytes.
    Auto,
    /// HTTP/1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Where a manager's routes are.
#[derive(Clone, Debug)]
pub enum Routes {
    /// In the listener.
    Inline(Arc<RouteTable>),
    /// In the route configuration of this name.
    Named(String),
}

/// An HTTP filter, as data.
#[derive(Clone, Debug)]
pub struct HttpFilter {
    /// Name in xDS, by which routes refer to it.
    pub name: String,
    /// Off, unless a route switches it on?
    pub disabled: bool,
    /// Configuration, of a supported type.
    pub config: Any,
}

/// How the downstream connection is secured.
#[derive(Clone, Debug)]
pub enum DownstreamSocket {
    /// Not at all.
    Raw,
    /// By TLS.
    Tls {
        /// Must the client show a certificate?
        requires_client_certificate: bool,
        /// Certificates, validation, parameters.
        context: Box<DownstreamTlsContext>,
    },
}

/// Splits a chain's filters into those before the last and the last, which decides what the chain is for.
pub(crate) fn compile(filters: &[Filter]) -> Result<(Vec<NetworkFilter>, Terminal), Refusal> {
    let Some((last, before)) = filters.split_last() else { return Ok((Vec::new(), Terminal::Close)) };
    let before = before.iter().map(|f| carried(f).within(|| f.name.clone())).collect::<Result<_, _>>()?;
    Ok((before, terminal(last).within(|| last.name.clone())?))
}

fn config(filter: &Filter) -> Result<&Any, Refusal> {
    let Filter { name: _, config_type } = filter;
    match config_type {
        Some(ConfigType::TypedConfig(any)) => Ok(any),
        Some(ConfigType::ConfigDiscovery(_)) => Err(Refusal::unsupported("config_discovery")),
        None => Err(Refusal::invalid("no typed_config")),
    }
}

fn carried(filter: &Filter) -> Result<NetworkFilter, Refusal> {
    let config = config(filter)?;
    if !is::<network::set_filter_state::v3::Config>(config) {
        return Err(Refusal::unsupported(&config.type_url));
    }
    Ok(NetworkFilter { name: filter.name.clone(), config: config.clone() })
}

fn terminal(filter: &Filter) -> Result<Terminal, Refusal> {
    let config = config(filter)?;
    if is::<tcp::TcpProxy>(config) {
        TcpProxy::compile(unpack(config)?).map(Terminal::Tcp)
    } else if is::<hcm::HttpConnectionManager>(config) {
        HttpManager::compile(unpack(config)?).map(|m| Terminal::Http(Box::new(m)))
    } else {
        Err(Refusal::unsupported(&config.type_url))
    }
}

impl TcpProxy {
    fn compile(mut proto: tcp::TcpProxy) -> Result<TcpProxy, Refusal> {
        check_tcp(&proto)?;
        let clusters = match proto.cluster_specifier.take() {
            Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(name)) => Weighted::compile([(name, 1)])?,
            Some(tcp::tcp_proxy::ClusterSpecifier::WeightedClusters(all)) => {
                let mut shares = Vec::new();
                for cluster in all.clusters {
                    let tcp::tcp_proxy::weighted_cluster::ClusterWeight { name, weight, metadata_match } =
                        cluster;
                    let metadata_match = &metadata_match;
                    refuse_if_set!(metadata_match);
                    shares.push((name, weight));
                }
                Weighted::compile(shares).within(|| "weighted_clusters".to_owned())?
            }
            None => return Err(Refusal::invalid("no cluster")),
        };
        Ok(TcpProxy { clusters, rest: Box::new(proto) })
    }

    /// The cluster for a connection; `random` decides among weighted ones.
    pub fn cluster(&self, random: u64) -> &str {
        self.clusters.pick(random)
    }

    /// All clusters it may choose, with their weights.
    pub fn clusters(&self) -> &Weighted {
        &self.clusters
    }
}

fn check_tcp(proto: &tcp::TcpProxy) -> Result<(), Refusal> {
    fates!(proto: tcp::TcpProxy {
        compiled:
            cluster_specifier;
        carried:
            stat_prefix,
            on_demand,
            idle_timeout,
            downstream_idle_timeout,
            upstream_idle_timeout,
            access_log,
            max_connect_attempts,
            backoff_options,
            hash_policy,
            max_downstream_connection_duration,
            access_log_options;
        refused:
            metadata_match,
            tunneling_config,
            max_downstream_connection_duration_jitter_percentage,
            access_log_flush_interval,
            flush_access_log_on_connected,
            proxy_protocol_tlvs,
            proxy_protocol_tlv_merge_policy,
            upstream_connect_mode,
            max_early_data_bytes,
            check_drain_close;
    });
    Ok(())
}

impl HttpManager {
    fn compile(mut proto: hcm::HttpConnectionManager) -> Result<HttpManager, Refusal> {
        check_http(&proto)?;
        use hcm::http_connection_manager::{CodecType, RouteSpecifier};
        let codec = match CodecType::try_from(proto.codec_type) {
            Ok(CodecType::Auto) => Codec::Auto,
            Ok(CodecType::Http1) => Codec::Http1,
            Ok(CodecType::Http2) => Codec::Http2,
            Ok(CodecType::Http3) | Err(_) => return Err(Refusal::unsupported("codec_type HTTP3")),
        };
        let routes = match proto.route_specifier.take() {
            Some(RouteSpecifier::RouteConfig(routes)) => {
                Routes::Inline(Arc::new(RouteTable::compile(routes)?))
            }
            Some(RouteSpecifier::Rds(rds)) => Routes::Named(rds.route_config_name),
            Some(RouteSpecifier::ScopedRoutes(_)) => return Err(Refusal::unsupported("scoped_routes")),
            None => return Err(Refusal::invalid("no routes")),
        };
        let filters = std::mem::take(&mut proto.http_filters);
        let filters: Vec<_> = filters
            .into_iter()
            .map(|f| {
                let name = f.name.clone();
                HttpFilter::compile(f).within(|| format!("http_filters[{name}]"))
            })
            .collect::<Result<_, _>>()?;
        if !filters.last().is_some_and(|f| is::<http::router::v3::Router>(&f.config)) {
            return Err(Refusal::invalid("the last HTTP filter must be the router"));
        }
        Ok(HttpManager { codec, routes, filters, rest: Box::new(proto) })
    }
}

impl HttpFilter {
    fn compile(proto: hcm::HttpFilter) -> Result<HttpFilter, Refusal> {
        let hcm::HttpFilter { name, is_optional: _, disabled, config_type } = proto;
        let config = match config_type {
            Some(hcm::http_filter::ConfigType::TypedConfig(any)) => any,
            Some(hcm::http_filter::ConfigType::ConfigDiscovery(_)) => {
                return Err(Refusal::unsupported("config_discovery"));
            }
            None => return Err(Refusal::invalid("no typed_config")),
        };
        let known = is::<http::router::v3::Router>(&config)
            || is::<http::cors::v3::Cors>(&config)
            || is::<http::fault::v3::HttpFault>(&config)
            || is::<http::grpc_stats::v3::FilterConfig>(&config)
            || is::<http::grpc_web::v3::GrpcWeb>(&config)
            || is::<http::on_demand::v3::OnDemand>(&config)
            || is::<http::set_filter_state::v3::Config>(&config);
        if known {
            Ok(HttpFilter { name, disabled, config })
        } else {
            Err(Refusal::unsupported(config.type_url))
        }
    }
}

/// Which field meets which fate; [`HttpManager::rest`] has what is carried.
fn check_http(proto: &hcm::HttpConnectionManager) -> Result<(), Refusal> {
    fates!(proto: hcm::HttpConnectionManager {
        compiled:
            codec_type,
            http_filters,
            route_specifier;
        carried:
            stat_prefix,
            add_user_agent,
            tracing,
            common_http_protocol_options,
            http_protocol_options,
            http2_protocol_options,
            server_name,
            server_header_transformation,
            scheme_header_transformation,
            max_request_headers_kb,
            stream_idle_timeout,
            stream_flush_timeout,
            request_timeout,
            request_headers_timeout,
            drain_timeout,
            delayed_close_timeout,
            access_log,
            access_log_options,
            use_remote_address,
            xff_num_trusted_hops,
            internal_address_config,
            skip_xff_append,
            via,
            generate_request_id,
            preserve_external_request_id,
            always_set_request_id_in_response,
            forward_client_cert_details,
            set_current_client_cert_details,
            proxy_100_continue,
            upgrade_configs,
            normalize_path,
            merge_slashes,
            path_with_escaped_slashes_action,
            request_id_extension,
            local_reply_config,
            strip_matching_host_port,
            strip_port_mode,
            stream_error_on_invalid_http_message,
            strip_trailing_host_dot,
            append_x_forwarded_port;
        refused:
            http1_safe_max_connection_duration,
            http3_protocol_options,
            drain_timeout_jitter,
            access_log_flush_interval,
            flush_access_log_on_new_request,
            original_ip_detection_extensions,
            early_header_mutation_extensions,
            forward_client_cert_matcher,
            represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
            path_normalization_options,
            proxy_status_config,
            typed_header_validation_config,
            append_local_overload,
            add_proxy_protocol_connection_state,
            forward_proto_config;
    });
    Ok(())
}

impl DownstreamSocket {
    pub(crate) fn compile(socket: Option<&TransportSocket>) -> Result<DownstreamSocket, Refusal> {
        let Some(TransportSocket { name: _, config_type }) = socket else { return Ok(DownstreamSocket::Raw) };
        let Some(SocketConfig::TypedConfig(config)) = config_type else {
            return Err(Refusal::unsupported("transport_socket without typed_config"));
        };
        if is::<RawBuffer>(config) {
            return Ok(DownstreamSocket::Raw);
        }
        if !is::<DownstreamTlsContext>(config) {
            return Err(Refusal::unsupported(&config.type_url).within("transport_socket"));
        }
        let context: DownstreamTlsContext = unpack(config).within(|| "transport_socket".to_owned())?;
        let requires_client_certificate =
            context.require_client_certificate.as_ref().is_some_and(|b| b.value);
        Ok(DownstreamSocket::Tls { requires_client_certificate, context: Box::new(context) })
    }
}
