//! xDS resources, compiled and put in force: what `ostro-xds-client` asks of a proxy.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterProto;
use envoy_types::pb::envoy::config::core::v3::ConfigSource;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener as ListenerProto;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::google::protobuf::Duration as DurationProto;
use ostro_engine::cluster::Assignment;
use ostro_engine::{Cluster, Discovery, Listener, RouteTable, Routes, Terminal};
use ostro_xds_client::{Accepted, Consumer, Kind, Need, Offered, PathSource, Phase, Source};
use prost::Message;

use crate::control::{Control, Sockets};
use crate::unsupported;

/// A resource that waits to be put in force.
pub(crate) enum Compiled {
    /// A cluster.
    Cluster(Arc<Cluster>),
    /// Endpoints.
    Endpoints(Arc<Assignment>),
    /// A listener, the content of its chains, and sockets that it needs.
    Listener(Box<CompiledListener>, Option<Sockets>),
    /// Routes.
    Routes(Arc<RouteTable>),
}

/// A listener, and the content of its chains.
pub(crate) struct CompiledListener {
    listener: Arc<Listener>,
    fingerprints: Vec<u64>,
}

/// Puts resources in force.
pub(crate) struct Resources {
    control: Rc<RefCell<Control>>,
    endpoints: HashMap<Arc<str>, Arc<Assignment>>,
    /// Clusters by the name of their endpoints.
    users: HashMap<String, BTreeSet<Arc<str>>>,
    on_phase: Box<dyn FnMut(Phase)>,
}

impl Resources {
    /// Puts resources in force through `control`; tells `on_phase` how far the start is.
    pub fn new(control: Rc<RefCell<Control>>, on_phase: Box<dyn FnMut(Phase)>) -> Resources {
        Resources { control, endpoints: HashMap::new(), users: HashMap::new(), on_phase }
    }

    fn put_cluster(&mut self, cluster: Arc<Cluster>) {
        self.forget_user(&cluster.name);
        let mut endpoints = None;
        if let Discovery::Eds(service) = &cluster.discovery {
            self.users.entry(service.clone()).or_default().insert(Arc::clone(&cluster.name));
            endpoints = self.endpoints.get(service.as_str());
        }
        self.control.borrow_mut().put_cluster(cluster, endpoints.map(Arc::as_ref));
    }

    fn forget_user(&mut self, name: &str) {
        let Some(before) = self.control.borrow().shared.clusters.get(name) else { return };
        if let Discovery::Eds(service) = &before.upstream.cluster.discovery
            && let Some(users) = self.users.get_mut(service)
        {
            users.remove(name);
            if users.is_empty() {
                self.users.remove(service);
            }
        }
    }
}

impl Consumer for Resources {
    type Compiled = Compiled;

    fn compile(&mut self, offered: &Offered<'_>) -> Result<Accepted<Compiled>, String> {
        let bytes = &offered.bytes[..];
        let plain = |compiled| Ok(Accepted { compiled, needs: Vec::new() });
        match offered.kind {
            kind if kind == Kind::CLUSTER => {
                let (cluster, needs) = cluster(decode(bytes)?)?;
                Ok(Accepted { compiled: Compiled::Cluster(cluster), needs })
            }
            kind if kind == Kind::LISTENER => {
                let (compiled, needs) = listener(decode(bytes)?)?;
                let sockets = self.control.borrow_mut().bind(&compiled.listener);
                let sockets = sockets.map_err(|error| error.to_string())?;
                Ok(Accepted { compiled: Compiled::Listener(Box::new(compiled), sockets), needs })
            }
            kind if kind == Kind::ENDPOINT => {
                let assignment = Assignment::compile_eds(decode::<ClusterLoadAssignment>(bytes)?);
                let assignment = assignment.map_err(|refusal| refusal.to_string())?;
                unsupported::endpoints(&assignment).map_err(|refusal| refusal.to_string())?;
                plain(Compiled::Endpoints(Arc::new(assignment)))
            }
            kind if kind == Kind::ROUTE => {
                let table = RouteTable::compile(decode::<RouteConfiguration>(bytes)?);
                let table = table.map_err(|refusal| refusal.to_string())?;
                unsupported::routes(&table).map_err(|refusal| refusal.to_string())?;
                plain(Compiled::Routes(Arc::new(table)))
            }
            other => Err(format!("not supported: {}", other.url())),
        }
    }

    fn set(&mut self, _kind: Kind, name: &Arc<str>, compiled: Compiled) {
        match compiled {
            Compiled::Cluster(cluster) => self.put_cluster(cluster),
            Compiled::Endpoints(endpoints) => {
                for user in self.users.get(&**name).into_iter().flatten() {
                    self.control.borrow().set_endpoints(user, &endpoints);
                }
                self.endpoints.insert(Arc::clone(name), endpoints);
            }
            Compiled::Listener(compiled, sockets) => {
                let CompiledListener { listener, fingerprints } = *compiled;
                self.control.borrow_mut().put_listener(listener, &fingerprints, sockets);
            }
            Compiled::Routes(table) => self.control.borrow_mut().put_routes(table),
        }
    }

    fn remove(&mut self, kind: Kind, name: &Arc<str>) {
        match kind {
            kind if kind == Kind::CLUSTER => {
                self.forget_user(name);
                self.control.borrow_mut().remove_cluster(name);
            }
            kind if kind == Kind::ENDPOINT => {
                self.endpoints.remove(name);
            }
            kind if kind == Kind::LISTENER => self.control.borrow_mut().remove_listener(name),
            kind if kind == Kind::ROUTE => self.control.borrow_mut().remove_routes(name),
            _ => {}
        }
    }

    fn commit(&mut self) {
        self.control.borrow_mut().commit();
    }

    fn phase(&mut self, phase: Phase) {
        (self.on_phase)(phase);
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, String> {
    M::decode(bytes).map_err(|error| format!("cannot be decoded: {error}"))
}

/// A cluster, and what it needs.
///
/// # Errors
/// What is not supported, or wrong.
pub(crate) fn cluster(proto: ClusterProto) -> Result<(Arc<Cluster>, Vec<Need>), String> {
    let source = proto.eds_cluster_config.as_ref().and_then(|eds| eds.eds_config.clone());
    let cluster = Cluster::compile(proto).map_err(|refusal| refusal.to_string())?;
    unsupported::cluster(&cluster).map_err(|refusal| refusal.to_string())?;
    let mut needs = Vec::new();
    if let Discovery::Eds(service) = &cluster.discovery {
        needs.push(need(Kind::ENDPOINT, service, source.as_ref())?);
    }
    Ok((Arc::new(cluster), needs))
}

/// A listener, and what it needs.
///
/// # Errors
/// What is not supported, or wrong.
pub(crate) fn listener(proto: ListenerProto) -> Result<(CompiledListener, Vec<Need>), String> {
    let fingerprints = fingerprints(&proto);
    let listener = Listener::compile(proto).map_err(|refusal| refusal.to_string())?;
    unsupported::listener(&listener).map_err(|refusal| refusal.to_string())?;
    let mut needs = Vec::new();
    for chain in listener.chains() {
        if let Terminal::Http(manager) = &chain.terminal
            && let Routes::Named { name, source } = &manager.routes
        {
            needs.push(need(Kind::ROUTE, name, Some(source))?);
        }
    }
    needs.dedup_by(|one, other| one.name == other.name);
    Ok((CompiledListener { listener: Arc::new(listener), fingerprints }, needs))
}

/// Content of a listener's filter chains, the default one last.
fn fingerprints(listener: &ListenerProto) -> Vec<u64> {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    chains.map(|chain| xxhash_rust::xxh3::xxh3_64(&chain.encode_to_vec())).collect()
}

/// A duration; `None` if it is negative, or none.
pub(crate) fn duration(of: &DurationProto) -> Option<Duration> {
    let nanos = u32::try_from(of.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(of.seconds).ok()?, nanos))
}

/// How long a resource is waited for where its source does not say (`ConfigSource.initial_fetch_timeout`).
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

fn need(kind: Kind, name: &str, given: Option<&ConfigSource>) -> Result<Need, String> {
    let (source, fetch_timeout) = match given {
        Some(given) => self::source(given).map_err(|why| format!("{name}: {why}"))?,
        None => (Source::Ads, Some(FETCH_TIMEOUT)),
    };
    Ok(Need { kind, name: name.into(), source, fetch_timeout })
}

/// Where resources come from, and how long they are waited for.
///
/// # Errors
/// What is not supported, or wrong.
pub(crate) fn source(given: &ConfigSource) -> Result<(Source, Option<Duration>), String> {
    let timeout = given.initial_fetch_timeout.as_ref();
    let fetch_timeout = match timeout.map(duration) {
        None => Some(FETCH_TIMEOUT),
        Some(Some(Duration::ZERO)) => None,
        Some(Some(timeout)) => Some(timeout),
        Some(None) => return Err("initial_fetch_timeout: not a duration".to_owned()),
    };
    let source = match &given.config_source_specifier {
        None | Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Source::Ads,
        Some(ConfigSourceSpecifier::PathConfigSource(path)) => Source::Path(PathSource {
            path: path.path.clone().into(),
            watched_directory: path.watched_directory.as_ref().map(|directory| directory.path.clone().into()),
        }),
        Some(_) => return Err("not supported: a config source that is neither ads nor a path".to_owned()),
    };
    Ok((source, fetch_timeout))
}
