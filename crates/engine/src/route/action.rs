//! What becomes of a request that a route matches.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::route::v3::route::Action as Proto;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::{DirectResponseAction, RouteAction, WeightedCluster};
use http::StatusCode;

use super::Defaults;
use super::destination::Destination;
use super::hash_policy::HashPolicies;
use super::mirror::Mirror;
use super::redirect::Redirect;
use super::rewrite::{HostRewrite, PathRewrite};
use super::timeouts::RouteTimeouts;
use crate::format::FormatString;
use crate::proto::enumeration;
use crate::refusal::Within;
use crate::retry_policy::RetryPolicy;
use crate::{Priority, Refusal, Request, RequestField, Upgrades, Weighted};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// It goes to a cluster.
    Forward(Box<Forward>),
    /// It is answered with a redirect.
    Redirect(Box<Redirect>),
    /// It is answered here.
    Direct(Box<Direct>),
}

/// A request goes to a cluster.
#[derive(Clone, Debug)]
pub struct Forward {
    target: Target,
    /// Settings of weighted clusters, in their order; empty for a single one.
    pub(super) destinations: Vec<Destination>,
    /// How long it may take.
    pub timeouts: RouteTimeouts,
    /// When it is tried again; the virtual host's, if the route has none.
    pub retry: Option<RetryPolicy>,
    /// Where it is sent, too; those of the virtual host or the table, if the route has none.
    pub mirrors: Vec<Mirror>,
    /// By what its host is chosen.
    pub hash: HashPolicies,
    /// Whose limits count.
    pub priority: Priority,
    /// Status where the cluster does not exist.
    pub cluster_not_found: StatusCode,
    /// Which protocols it may be upgraded to, where that differs from the manager's.
    pub upgrades: Upgrades,
    /// Is the host it had added to `x-forwarded-host` when it gets another?
    pub appends_forwarded_host: bool,
    pub(super) path: PathRewrite,
    pub(super) host: HostRewrite,
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
    pub status: StatusCode,
    /// Body, perhaps empty.
    pub body: Bytes,
    /// What is made of the body, if anything.
    pub format: Option<FormatString>,
}

impl Action {
    pub(super) fn compile(proto: Proto, defaults: &Defaults<'_>) -> Result<Action, Refusal> {
        match proto {
            Proto::Route(action) => Forward::compile(action, defaults)
                .map(|forward| Action::Forward(Box::new(forward)))
                .within(|| "route".to_owned()),
            Proto::Redirect(action) => Redirect::compile(&action)
                .map(|redirect| Action::Redirect(Box::new(redirect)))
                .within(|| "redirect".to_owned()),
            Proto::DirectResponse(action) => Direct::compile(action, defaults.direct_body_max)
                .map(|direct| Action::Direct(Box::new(direct)))
                .within(|| "direct_response".to_owned()),
            Proto::FilterAction(_) => Err(Refusal::unsupported("filter_action")),
            Proto::NonForwardingAction(_) => Err(Refusal::unsupported("non_forwarding_action")),
        }
    }
}

impl Forward {
    fn compile(mut proto: RouteAction, defaults: &Defaults<'_>) -> Result<Forward, Refusal> {
        check(&proto)?;
        let (target, destinations) = target(proto.cluster_specifier.take())?;
        let code = proto.cluster_not_found_response_code;
        let retry = proto.retry_policy.as_ref().map(RetryPolicy::compile).transpose();
        let retry = retry.within(|| "retry_policy".to_owned())?.or_else(|| defaults.retry.cloned());
        let mut mirrors = Mirror::compile_all(&proto.request_mirror_policies)?;
        if mirrors.is_empty() {
            mirrors = defaults.mirrors.to_vec();
        }
        Ok(Forward {
            target,
            destinations,
            timeouts: RouteTimeouts::compile(&proto)?,
            retry,
            mirrors,
            hash: HashPolicies::compile(&proto.hash_policy)?,
            priority: Priority::compile(proto.priority)?,
            cluster_not_found: match enumeration(code, "cluster_not_found_response_code")? {
                ClusterNotFoundResponseCode::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
                ClusterNotFoundResponseCode::NotFound => StatusCode::NOT_FOUND,
                ClusterNotFoundResponseCode::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
            },
            upgrades: Upgrades::of_route(&proto.upgrade_configs)?,
            appends_forwarded_host: proto.append_x_forwarded_host,
            path: PathRewrite::compile(&proto)?,
            host: HostRewrite::compile(proto.host_rewrite_specifier.as_ref())?,
        })
    }

    /// The cluster for a request; `random` is the request's own. `None` if it should come from a header that
    /// the request does not have, or that is no text.
    pub fn cluster<'a>(&'a self, request: &'a Request, random: u64) -> Option<&'a str> {
        self.cluster_at(request, self.place(random))
    }

    /// Which of its destinations a request goes to: always the first, if it has no weighted clusters.
    pub(super) fn place(&self, random: u64) -> usize {
        match &self.target {
            Target::Weighted(clusters) => clusters.place(random),
            Target::Cluster(_) | Target::Header(_) => 0,
        }
    }

    /// The cluster of a destination.
    pub(super) fn cluster_at<'a>(&'a self, request: &'a Request, place: usize) -> Option<&'a str> {
        match &self.target {
            Target::Cluster(name) => Some(name),
            Target::Weighted(clusters) => clusters.name(place),
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

fn target(specifier: Option<ClusterSpecifier>) -> Result<(Target, Vec<Destination>), Refusal> {
    match specifier {
        Some(ClusterSpecifier::Cluster(name)) => Ok((Target::Cluster(name), Vec::new())),
        Some(ClusterSpecifier::ClusterHeader(name)) => {
            Ok((Target::Header(RequestField::parse(&name)), Vec::new()))
        }
        Some(ClusterSpecifier::WeightedClusters(clusters)) => {
            weighted(clusters).within(|| "weighted_clusters".to_owned())
        }
        Some(
            ClusterSpecifier::ClusterSpecifierPlugin(_) | ClusterSpecifier::InlineClusterSpecifierPlugin(_),
        ) => Err(Refusal::unsupported("cluster_specifier_plugin")),
        None => Err(Refusal::invalid("no cluster")),
    }
}

fn weighted(proto: WeightedCluster) -> Result<(Target, Vec<Destination>), Refusal> {
    #[allow(deprecated, reason = "Envoy ignores total_weight, and so do we")]
    let WeightedCluster { clusters, total_weight: _, runtime_key_prefix: _, random_value_specifier } = proto;
    let random_value_specifier = &random_value_specifier;
    refuse_if_set!(random_value_specifier);
    let share = |c: &_| Destination::share(c);
    let weights = Weighted::compile(clusters.iter().map(share))?;
    let one =
        |(place, cluster): (usize, &_)| Destination::compile(cluster).within(|| format!("clusters[{place}]"));
    let destinations = clusters.iter().enumerate().map(one).collect::<Result<_, _>>()?;
    Ok((Target::Weighted(weights), destinations))
}

impl Direct {
    fn compile(proto: DirectResponseAction, body_max: usize) -> Result<Direct, Refusal> {
        let DirectResponseAction { status, body, body_format } = proto;
        let status = u16::try_from(status).ok().filter(|s| (200..600).contains(s));
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let body = match body {
            None => Vec::new(),
            Some(DataSource { specifier, watched_directory: _ }) => match specifier {
                Some(Specifier::InlineString(text)) => text.into_bytes(),
                Some(Specifier::InlineBytes(bytes)) => bytes,
                _ => return Err(Refusal::unsupported("a body that is not inline")),
            },
        };
        if body.len() > body_max {
            return Err(Refusal::invalid(format!("a body of {} bytes, of at most {body_max}", body.len())));
        }
        let format = body_format.as_ref().map(FormatString::compile).transpose();
        Ok(Direct {
            status: status.ok_or_else(|| Refusal::invalid("status"))?,
            body: body.into(),
            format: format.within(|| "body_format".to_owned())?,
        })
    }
}

/// Which field meets which fate.
fn check(proto: &RouteAction) -> Result<(), Refusal> {
    fates!(proto: RouteAction {
        compiled:
            cluster_specifier,
            cluster_not_found_response_code,
            prefix_rewrite,
            regex_rewrite,
            path_rewrite,
            append_x_forwarded_host,
            timeout,
            idle_timeout,
            flush_timeout,
            retry_policy,
            request_mirror_policies,
            priority,
            hash_policy,
            max_grpc_timeout,
            grpc_timeout_offset,
            upgrade_configs,
            max_stream_duration,
            host_rewrite_specifier;
        refused:
            metadata_match,
            path_rewrite_policy,
            early_data_policy,
            retry_policy_typed_config,
            rate_limits,
            include_vh_rate_limits,
            cors,
            internal_redirect_policy,
            internal_redirect_action,
            max_internal_redirects,
            hedge_policy;
    });
    Ok(())
}
