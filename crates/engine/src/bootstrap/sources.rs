//! Where configuration comes from: one stream that has everything.

use std::time::Duration;

use envoy_types::pb::envoy::config::bootstrap::v3::bootstrap::DynamicResources as Proto;
use envoy_types::pb::envoy::config::core::v3::api_config_source::ApiType;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, ConfigSource, GrpcService, HeaderValue as HeaderProto, PathConfigSource,
    RateLimitSettings, RetryPolicy,
};
use http::{HeaderName, HeaderValue};

use crate::Refusal;
use crate::proto::duration;
use crate::refusal::Within;

/// How long a first answer is waited for, if nothing is said.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a stream that broke waits before it is tried again, if nothing is said: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Requests to the control plane that may go out at once, and each second, where they are limited at all.
const RATE: (u32, f64) = (100, 10.0);

/// Where listeners and clusters come from, besides those of the bootstrap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DynamicResources {
    /// The stream that has everything, if there is one.
    pub ads: Option<AdsSettings>,
    /// Listeners come over it.
    pub listeners: Option<SourceSettings>,
    /// Clusters come over it.
    pub clusters: Option<SourceSettings>,
}

/// Where a kind of resources comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSettings {
    /// The stream, or a file.
    pub source: Source,
    /// How long to wait for a first answer before going on without; `None`: for as long as it takes.
    pub fetch_timeout: Option<Duration>,
}

/// A source of resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The stream that has everything.
    Ads,
    /// A file, read again when it is replaced.
    Path {
        /// Its path.
        path: String,
        /// A directory that is watched in its stead.
        watched_directory: Option<String>,
    },
}

/// The stream.
#[derive(Clone, Debug, PartialEq)]
pub struct AdsSettings {
    /// Only differences are sent.
    pub is_delta: bool,
    /// The node is told in the first message only.
    pub tells_node_once: bool,
    /// The control plane: one of the bootstrap's clusters.
    pub cluster: String,
    /// `:authority`; empty: the cluster's name.
    pub authority: String,
    /// Further headers of the stream's request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long to wait before trying again: at first, and at most.
    pub back_off: (Duration, Duration),
    /// Requests that may go out at once, and for each second.
    pub rate_limit: Option<(u32, f64)>,
    /// Longest message, in bytes.
    pub message_bytes_max: Option<u32>,
}

impl DynamicResources {
    pub(super) fn compile(proto: Proto) -> Result<DynamicResources, Refusal> {
        {
            let proto = &proto;
            fates!(proto: Proto {
                compiled: lds_config, cds_config, ads_config;
                carried: ;
                refused: lds_resources_locator, cds_resources_locator;
            });
        }
        let ads =
            proto.ads_config.map(AdsSettings::compile).transpose().within(|| "ads_config".to_owned())?;
        let source = |source: Option<ConfigSource>, field: &str| {
            let compiled = source.map(|source| SourceSettings::compile(&source, ads.is_some())).transpose();
            compiled.within(|| field.to_owned())
        };
        let listeners = source(proto.lds_config, "lds_config")?;
        let clusters = source(proto.cds_config, "cds_config")?;
        Ok(DynamicResources { ads, listeners, clusters })
    }
}

impl SourceSettings {
    fn compile(proto: &ConfigSource, has_ads: bool) -> Result<SourceSettings, Refusal> {
        fates!(proto: ConfigSource {
            compiled: initial_fetch_timeout, resource_api_version, config_source_specifier;
            carried: ;
            refused: authorities;
        });
        version(proto.resource_api_version, "resource_api_version")?;
        let source = source(proto.config_source_specifier.as_ref(), has_ads)?;
        let timeout = proto.initial_fetch_timeout.as_ref().map(duration).transpose();
        let timeout = timeout.within(|| "initial_fetch_timeout".to_owned())?.unwrap_or(FETCH_TIMEOUT);
        Ok(SourceSettings { source, fetch_timeout: Some(timeout).filter(|timeout| !timeout.is_zero()) })
    }
}

#[allow(deprecated, reason = "a deprecated way to name a file must be seen to be refused")]
fn source(specifier: Option<&ConfigSourceSpecifier>, has_ads: bool) -> Result<Source, Refusal> {
    match specifier {
        Some(ConfigSourceSpecifier::Ads(_)) if has_ads => Ok(Source::Ads),
        Some(ConfigSourceSpecifier::Ads(_)) => Err(Refusal::invalid("ads, of which there is no ads_config")),
        Some(ConfigSourceSpecifier::PathConfigSource(proto)) => {
            fates!(proto: PathConfigSource {
                compiled: path, watched_directory;
                carried: ;
                refused: poll_interval;
            });
            if proto.path.is_empty() {
                return Err(Refusal::invalid("path_config_source without a path"));
            }
            let directory = proto.watched_directory.as_ref().map(|directory| directory.path.clone());
            Ok(Source::Path { path: proto.path.clone(), watched_directory: directory })
        }
        Some(ConfigSourceSpecifier::ApiConfigSource(_)) => {
            Err(Refusal::unsupported("api_config_source: a stream of its own"))
        }
        Some(ConfigSourceSpecifier::Path(_)) => {
            Err(Refusal::unsupported("path, which is path_config_source now"))
        }
        Some(ConfigSourceSpecifier::Self_(_)) => Err(Refusal::unsupported("self")),
        None => Err(Refusal::invalid("no config_source_specifier")),
    }
}

/// Envoy refuses everything but version 3, the default included.
fn version(number: i32, field: &str) -> Result<(), Refusal> {
    if number == ApiVersion::V3 as i32 {
        return Ok(());
    }
    Err(Refusal::invalid(format!("{field} must be V3")))
}

impl AdsSettings {
    fn compile(proto: ApiConfigSource) -> Result<AdsSettings, Refusal> {
        {
            let proto = &proto;
            fates!(proto: ApiConfigSource {
                compiled:
                    api_type,
                    transport_api_version,
                    grpc_services,
                    rate_limit_settings,
                    set_node_on_first_message_only;
                // Times of REST polling.
                carried: refresh_delay, request_timeout;
                refused: cluster_names, config_validators;
            });
        }
        version(proto.transport_api_version, "transport_api_version")?;
        let is_delta = match ApiType::try_from(proto.api_type) {
            Ok(ApiType::Grpc) => false,
            Ok(ApiType::DeltaGrpc) => true,
            _ => return Err(Refusal::unsupported(format!("api_type {}", proto.api_type))),
        };
        let service = match <[GrpcService; 1]>::try_from(proto.grpc_services) {
            Ok([service]) => service,
            Err(services) if services.is_empty() => return Err(Refusal::invalid("no grpc_services")),
            Err(_) => return Err(Refusal::unsupported("more than one of grpc_services")),
        };
        let mut settings = of_service(service).within(|| "grpc_services[0]".to_owned())?;
        settings.is_delta = is_delta;
        settings.tells_node_once = proto.set_node_on_first_message_only;
        settings.rate_limit = proto.rate_limit_settings.map(|limit| {
            let RateLimitSettings { max_tokens, fill_rate } = limit;
            (max_tokens.map_or(RATE.0, |max| max.value), fill_rate.map_or(RATE.1, |rate| rate.value))
        });
        Ok(settings)
    }
}

fn of_service(service: GrpcService) -> Result<AdsSettings, Refusal> {
    // Envoy's timeout is for unary calls; the retry policy here is not for streams, the target's is.
    let GrpcService { timeout: _, initial_metadata, retry_policy, target_specifier } = service;
    let target = match target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(target)) => target,
        Some(TargetSpecifier::GoogleGrpc(_)) => return Err(Refusal::unsupported("google_grpc")),
        None => return Err(Refusal::invalid("no target_specifier")),
    };
    // That Envoy's own headers are not wanted is so here anyway.
    let EnvoyGrpc {
        cluster_name,
        authority,
        retry_policy: target_retry,
        max_receive_message_length,
        skip_envoy_headers: _,
    } = target;
    if cluster_name.is_empty() {
        return Err(Refusal::invalid("envoy_grpc without a cluster_name"));
    }
    let mut headers = Vec::new();
    for (i, header) in initial_metadata.into_iter().enumerate() {
        headers.push(self::header(header).within(|| format!("initial_metadata[{i}]"))?);
    }
    let back_off = target_retry.or(retry_policy).map(|policy| back_off(&policy)).transpose();
    Ok(AdsSettings {
        is_delta: false,
        tells_node_once: false,
        cluster: cluster_name,
        authority,
        headers,
        back_off: back_off.within(|| "retry_policy".to_owned())?.unwrap_or(BACK_OFF),
        rate_limit: None,
        message_bytes_max: max_receive_message_length.map(|length| length.value),
    })
}

fn header(proto: HeaderProto) -> Result<(HeaderName, HeaderValue), Refusal> {
    let HeaderProto { key, value, raw_value } = proto;
    let value = if raw_value.is_empty() { value.into_bytes() } else { raw_value };
    let name = HeaderName::try_from(&key).map_err(|_| Refusal::invalid(format!("header name {key:?}")))?;
    let value =
        HeaderValue::try_from(value).map_err(|_| Refusal::invalid(format!("value of header {key}")))?;
    Ok((name, value))
}

/// When to retry is what matters of the policy; a stream that breaks is always tried again.
fn back_off(policy: &RetryPolicy) -> Result<(Duration, Duration), Refusal> {
    let Some(back_off) = &policy.retry_back_off else { return Ok(BACK_OFF) };
    let base = back_off.base_interval.as_ref().ok_or_else(|| Refusal::invalid("no base_interval"))?;
    let base = duration(base).within(|| "base_interval".to_owned())?;
    let max =
        back_off.max_interval.as_ref().map(duration).transpose().within(|| "max_interval".to_owned())?;
    let max = max.unwrap_or(base * 10);
    if base.is_zero() || max < base {
        return Err(Refusal::invalid(
            "max_interval must be at least base_interval, which must be more than 0",
        ));
    }
    Ok((base, max))
}
