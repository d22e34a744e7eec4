//! What becomes of a request that a route matches.

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::route::v3::route::Action as Proto;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, RouteAction, WeightedCluster,
};

use crate::refusal::Within;
use crate::{Refusal, Request, RequestField, Weighted};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// It goes to a cluster.
    Forward(Forward),
    /// It is answered with a redirect, as data.
    Redirect(Box<RedirectAction>),
    /// It is answered here.
    Direct(Direct),
}

/// A request goes to a cluster.
#[derive(Clone, Debug)]
pub struct Forward {
    target: Target,
    /// Per-destination settings (header operations, host rewrite) in the order of the weighted clusters; empty
    /// for a single one.
    pub destinations: Vec<ClusterWeight>,
    /// The message without its clusters: timeouts, retries, rewrites, mirrors, hash policies, upgrades.
    pub rest: Box<RouteAction>,
}

#[derive(Clone, Debug)]
enum Target {
    Cluster(String),
    /// Named by a request header.
    Header(RequestField),
    Weighted(Weighted),
}

/// A request is answered here.
#[derive(Clone, Debug)]
pub struct Direct {
    /// HTTP status.
    pub status: u16,
    /// Body, perhaps empty.
    pub body: Vec<u8>,
}

impl Action {
    pub(super) fn compile(proto: Proto) -> Result<Action, Refusal> {
        match proto {
            Proto::Route(action) => {
                Forward::compile(action).map(Action::Forward).within(|| "route".to_owned())
            }
            Proto::Redirect(action) => {
                check_redirect(&action).within(|| "redirect".to_owned())?;
                Ok(Action::Redirect(Box::new(action)))
            }
            Proto::DirectResponse(action) => {
                Direct::compile(action).map(Action::Direct).within(|| "direct_response".to_owned())
            }
            Proto::FilterAction(_) => Err(Refusal::unsupported("filter_action")),
            Proto::NonForwardingAction(_) => Err(Refusal::unsupported("non_forwarding_action")),
        }
    }
}

impl Forward {
    fn compile(mut proto: RouteAction) -> Result<Forward, Refusal> {
        check_route(&proto)?;
        let mut destinations = Vec::new();
        let target = match proto.cluster_specifier.take() {
            Some(ClusterSpecifier::Cluster(name)) => Target::Cluster(name),
            Some(ClusterSpecifier::ClusterHeader(name)) => Target::Header(RequestField::parse(&name)),
            Some(ClusterSpecifier::WeightedClusters(clusters)) => {
                destinations = check_weighted(clusters).within(|| "weighted_clusters".to_owned())?;
                let share = |c: &ClusterWeight| (c.name.clone(), c.weight.as_ref().map_or(0, |w| w.value));
                Target::Weighted(Weighted::compile(destinations.iter().map(share))?)
            }
            Some(
                ClusterSpecifier::ClusterSpecifierPlugin(_)
                | ClusterSpecifier::InlineClusterSpecifierPlugin(_),
            ) => {
                return Err(Refusal::unsupported("cluster_specifier_plugin"));
            }
            None => return Err(Refusal::invalid("no cluster")),
        };
        Ok(Forward { target, destinations, rest: Box::new(proto) })
    }

    /// The cluster for a request; `random` is the request's own. `None` if it should come from a header that
    /// the request does not have, or that is no text.
    pub fn cluster<'a>(&'a self, request: &'a Request, random: u64) -> Option<&'a str> {
        match &self.target {
            Target::Cluster(name) => Some(name),
            Target::Weighted(clusters) => Some(clusters.pick(random)),
            Target::Header(name) => request.values(name).next().and_then(|v| std::str::from_utf8(v).ok()),
        }
    }

    /// The clusters it may choose, with their weights: none if a header says.
    pub fn clusters(&self) -> Vec<(&str, u32)> {
        match &self.target {
            Target::Cluster(name) => vec![(name, 1)],
            Target::Weighted(clusters) => clusters.shares().collect(),
            Target::Header(_) => Vec::new(),
        }
    }
}

impl Direct {
    fn compile(proto: DirectResponseAction) -> Result<Direct, Refusal> {
        let DirectResponseAction { status, body, body_format } = proto;
        let body_format = &body_format;
        refuse_if_set!(body_format);
        let status = u16::try_from(status).ok().filter(|s| (200..600).contains(s));
        let status = status.ok_or_else(|| Refusal::invalid("status"))?;
        let body = match body {
            None => Vec::new(),
            Some(DataSource { specifier, watched_directory: _ }) => match specifier {
                Some(Specifier::InlineString(text)) => text.into_bytes(),
                Some(Specifier::InlineBytes(bytes)) => bytes,
                _ => return Err(Refusal::unsupported("a body that is not inline")),
            },
        };
        Ok(Direct { status, body })
    }
}

/// Which field meets which fate; [`Forward::rest`] has what is carried.
fn check_route(proto: &RouteAction) -> Result<(), Refusal> {
    fates!(proto: RouteAction {
        compiled:
            cluster_specifier;
        carried:
            cluster_not_found_response_code,
            prefix_rewrite,
            regex_rewrite,
            append_x_forwarded_host,
            timeout,
            idle_timeout,
            flush_timeout,
            retry_policy,
            request_mirror_policies,
            priority,
            hash_policy,
            max_grpc_timeout,
            upgrade_configs,
            max_stream_duration,
            host_rewrite_specifier;
        refused:
            metadata_match,
            path_rewrite_policy,
            path_rewrite,
            early_data_policy,
            retry_policy_typed_config,
            rate_limits,
            include_vh_rate_limits,
            cors,
            grpc_timeout_offset,
            internal_redirect_policy,
            internal_redirect_action,
            max_internal_redirects,
            hedge_policy;
    });
    Ok(())
}

fn check_weighted(proto: WeightedCluster) -> Result<Vec<ClusterWeight>, Refusal> {
    #[allow(deprecated, reason = "Envoy ignores total_weight, and so do we")]
    let WeightedCluster { clusters, total_weight: _, runtime_key_prefix: _, random_value_specifier } = proto;
    let random_value_specifier = &random_value_specifier;
    refuse_if_set!(random_value_specifier);
    for cluster in &clusters {
        let ClusterWeight {
            name: _,
            weight: _,
            request_headers_to_add: _,
            request_headers_to_remove: _,
            response_headers_to_add: _,
            response_headers_to_remove: _,
            typed_per_filter_config: _,
            host_rewrite_specifier: _,
            cluster_header,
            metadata_match,
        } = cluster;
        refuse_if_set!(cluster_header, metadata_match);
    }
    Ok(clusters)
}

fn check_redirect(proto: &RedirectAction) -> Result<(), Refusal> {
    let RedirectAction {
        host_redirect: _,
        port_redirect: _,
        response_code: _,
        strip_query: _,
        scheme_rewrite_specifier: _,
        path_rewrite_specifier,
    } = proto;
    use envoy_types::pb::envoy::config::route::v3::redirect_action::PathRewriteSpecifier as Rewrite;
    match path_rewrite_specifier {
        Some(Rewrite::PathRewrite(_)) => Err(Refusal::unsupported("path_rewrite")),
        Some(Rewrite::PathRedirect(_) | Rewrite::PrefixRewrite(_) | Rewrite::RegexRewrite(_)) | None => {
            Ok(())
        }
    }
}
