//! The process: from the command line to workers that serve, and to its end.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterProto;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Extension, Node};
use envoy_types::pb::envoy::config::endpoint::v3::LbEndpoint;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use ostro_engine::Cluster;
use ostro_transport::dns::Resolver;
use ostro_xds_client::{Ads, BackOff, Dialects, Kind, Moment, PlainDial, Store, Target, Wildcard};
use prost::Message as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::admin::{Admin, AdminHandle, Buckets, LogLevels, Subject as _};
use crate::config::Shared;
use crate::configuration;
use crate::control::Control;
use crate::istio::Identity;
use crate::options::{Mode, Options};
use crate::resources::{self, Resources};
use crate::stats::Tags;
use crate::subject::Proxy;
use crate::worker::{self, Scope};

/// How often it is looked whether something is due.
const CHORES_PERIOD: Duration = Duration::from_secs(1);
const CHORES_PAUSE_MIN: Duration = Duration::from_millis(10);
/// Most workers.
const WORKERS_MAX: u32 = 1024;

/// Why the process does not start. Whoever configured it is at fault, or the system.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no bootstrap.
    #[error("at least one of --config-path or --config-yaml must be non-empty")]
    NoConfiguration,
    /// The file cannot be read.
    #[error("unable to read file: {path}: {error}")]
    Unreadable {
        /// Its path.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The bootstrap is none, or is not supported.
    #[error("{0}")]
    Invalid(String),
    /// The system refuses something.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Runs the proxy to its end.
pub fn run(options: Options) -> ExitCode {
    let parts = options.component_log_level.as_deref().unwrap_or_default();
    let (levels, filter) = match LogLevels::new(&options.log_level, parts) {
        Ok(levels) => levels,
        Err(wrong) => {
            eprintln!("error: {wrong}");
            return ExitCode::FAILURE;
        }
    };
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if tracing_subscriber::registry().with(filter).with(log).try_init().is_err() {
        eprintln!("there is a logger already");
    }
    match start(&options, levels) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error initializing configuration: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options, levels: LogLevels) -> Result<(), StartError> {
    let started = Instant::now();
    let bootstrap = configuration::read(options)?;
    let settings = ostro_engine::Bootstrap::compile(bootstrap.clone())
        .map_err(|refusal| StartError::Invalid(refusal.to_string()))?;
    crate::unsupported::bind(&settings.bind).map_err(|unsupported| {
        StartError::Invalid(format!("cluster_manager.upstream_bind_config.{unsupported}"))
    })?;
    for notice in &settings.notices {
        tracing::warn!("{notice}");
    }
    if options.mode != Mode::Serve {
        check(&bootstrap)?;
        println!("configuration OK");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(options, bootstrap, settings, levels, started))
}

/// Compiles what is in the bootstrap.
fn check(bootstrap: &Bootstrap) -> Result<(), StartError> {
    let Some(given) = &bootstrap.static_resources else { return Ok(()) };
    for cluster in &given.clusters {
        resources::cluster(cluster.clone()).map_err(StartError::Invalid)?;
    }
    for listener in &given.listeners {
        resources::listener(listener.clone()).map_err(StartError::Invalid)?;
    }
    Ok(())
}

async fn serve(
    options: &Options,
    mut bootstrap: Bootstrap,
    settings: ostro_engine::Bootstrap,
    levels: LogLevels,
    started: Instant,
) -> Result<(), StartError> {
    let node = node(options, &mut bootstrap);
    let identity = Identity::new(node.clone());
    let shared = Shared::new(own_ip(), settings.bind.clone(), identity, settings.max_connections);
    let shared = Arc::new(shared);
    let cores = || std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let count = options.concurrency.filter(|count| *count > 0).unwrap_or_else(cores).min(WORKERS_MAX);
    let mut workers = Vec::new();
    for index in 0..count {
        workers.push(worker::start(index, Arc::clone(&shared), options.flush_interval())?);
    }
    // Whoever captures traffic knows ours by its mark: names are looked up with it, too.
    let resolver = Resolver::system(crate::config::mark(&shared.bind))?;
    let control = Control::new(Arc::clone(&shared), workers, resolver.clone(), options.drain_time());
    let control = Rc::new(RefCell::new(control));
    let resources = Resources::new(Rc::clone(&control), Box::new(|_| {}));
    let mut store = Store::new(resources, wildcards(&bootstrap)?);
    add_static(&mut store, &bootstrap)?;
    let ads = ads(&bootstrap, node, &settings, resolver)?;
    let handle = ostro_xds_client::Handle::new();
    let records = store.records();
    let (proxy, mut orders) =
        Proxy::new(Arc::clone(&shared), records, bootstrap.encode_to_vec().into(), count);
    let admin = admin(options, &shared, settings, proxy, levels, started)?;
    tokio::select! {
        never = ostro_xds_client::run(&mut store, ads, None, &handle) => match never {},
        () = chores(&shared) => {}
        () = orders.obey(&control, options.drain_time()) => {}
        ended = end(&shared, &control) => ended?,
    }
    // Whoever waits for an answer of ours gets none.
    drop(orders);
    drop(admin);
    control.borrow_mut().stop();
    shared.logs.shutdown();
    Ok(())
}

/// The address of this machine that the world sees, as far as the routing table tells; no packet is sent for it.
fn own_ip() -> IpAddr {
    let seen = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        socket.local_addr().ok()
    };
    seen().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

/// Who this proxy is, for whoever configures it.
fn node(options: &Options, bootstrap: &mut Bootstrap) -> Node {
    let node = bootstrap.node.get_or_insert_default();
    if !options.service_node.is_empty() {
        node.id.clone_from(&options.service_node);
    }
    if !options.service_cluster.is_empty() {
        node.cluster.clone_from(&options.service_cluster);
    }
    node.user_agent_name = "ostro".to_owned();
    let told = |extension: ostro_engine::Extension| Extension {
        name: extension.name.to_owned(),
        category: extension.category.to_owned(),
        ..Extension::default()
    };
    node.extensions = ostro_engine::extensions().map(told).collect();
    node.clone()
}

/// What is asked for without names.
fn wildcards(bootstrap: &Bootstrap) -> Result<Vec<Wildcard>, StartError> {
    let mut wildcards = Vec::new();
    let dynamic = bootstrap.dynamic_resources.as_ref();
    let sources = [
        (Kind::CLUSTER, dynamic.and_then(|dynamic| dynamic.cds_config.as_ref())),
        (Kind::LISTENER, dynamic.and_then(|dynamic| dynamic.lds_config.as_ref())),
    ];
    for (kind, source) in sources {
        if let Some(source) = source {
            let (source, fetch_timeout) = resources::source(source).map_err(StartError::Invalid)?;
            wildcards.push(Wildcard { kind, source, fetch_timeout });
        }
    }
    Ok(wildcards)
}

fn add_static(store: &mut Store<Resources>, bootstrap: &Bootstrap) -> Result<(), StartError> {
    let Some(resources) = &bootstrap.static_resources else { return Ok(()) };
    let now = Moment::now();
    for cluster in &resources.clusters {
        store.add_static(Kind::CLUSTER, cluster.encode_to_vec().into(), now).map_err(StartError::Invalid)?;
    }
    for listener in &resources.listeners {
        store
            .add_static(Kind::LISTENER, listener.encode_to_vec().into(), now)
            .map_err(StartError::Invalid)?;
    }
    Ok(())
}

/// How the control plane is reached, if there is one.
fn ads(
    bootstrap: &Bootstrap,
    node: Node,
    settings: &ostro_engine::Bootstrap,
    resolver: Resolver,
) -> Result<Option<Ads>, StartError> {
    let Some(stated) = &settings.dynamic.ads else { return Ok(None) };
    let cluster = static_cluster(bootstrap, &stated.cluster)?;
    let targets = targets(cluster);
    if targets.is_empty() {
        return Err(StartError::Invalid(format!(
            "ads_config names cluster {}, which has no endpoints",
            cluster.name
        )));
    }
    let cluster =
        Cluster::compile(cluster.clone()).map_err(|refusal| StartError::Invalid(refusal.to_string()))?;
    let bind = settings.bind.overridden_by(cluster.bind.as_ref());
    let keepalive = cluster.http.http2.keepalive;
    let options = move |to| crate::config::connect_options(&bind, cluster.keepalive, to);
    let dial = PlainDial::new(targets, Arc::new(resolver), options, cluster.connect_timeout);
    let dialect = if stated.is_delta { Dialects::Delta } else { Dialects::World };
    let mut ads = Ads::new(node, dialect, Arc::new(dial), fastrand::u64(..));
    let authority = if stated.authority.is_empty() { &stated.cluster } else { &stated.authority };
    ads.authority.clone_from(authority);
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    ads.metadata = stated.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let (base, max) = stated.back_off;
    ads.backoff = BackOff { base, max };
    ads.keepalive = keepalive.and_then(|keepalive| Some((keepalive.interval?, keepalive.timeout)));
    if let Some(most) = stated.message_bytes_max {
        ads.response_bytes = usize::try_from(most).unwrap_or(usize::MAX);
    }
    Ok(Some(ads))
}

/// A static cluster.
fn static_cluster<'b>(bootstrap: &'b Bootstrap, name: &str) -> Result<&'b ClusterProto, StartError> {
    let clusters =
        bootstrap.static_resources.as_ref().map(|resources| &resources.clusters[..]).unwrap_or_default();
    let unknown =
        || StartError::Invalid(format!("ads_config names cluster {name}, which is not in static_resources"));
    clusters.iter().find(|cluster| cluster.name == name).ok_or_else(unknown)
}

/// Where a static cluster's endpoints are.
fn targets(cluster: &ClusterProto) -> Vec<Target> {
    let localities = cluster.load_assignment.iter().flat_map(|assignment| &assignment.endpoints);
    let endpoints = localities.flat_map(|locality| &locality.lb_endpoints);
    let address = |endpoint: &LbEndpoint| match &endpoint.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint.address.as_ref()?.address.clone(),
        _ => None,
    };
    let target = |address| match address {
        AddressKind::SocketAddress(socket) => match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => {
                Some(Target::Host { name: socket.address, port: u16::try_from(port).ok()? })
            }
            _ => None,
        },
        AddressKind::Pipe(pipe) => Some(Target::Unix(pipe.path.into())),
        AddressKind::EnvoyInternalAddress(_) => None,
    };
    endpoints.filter_map(address).filter_map(target).collect()
}

/// What is due from time to time: ejected hosts come back, and their like; and what follows when hosts' health changes.
async fn chores(shared: &Shared) {
    let mut random = fastrand::Rng::new();
    let mut due = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = shared.health_changed.notified() => {
                let now = shared.clock().monotonic();
                shared.clusters.all().iter().for_each(|cluster| cluster.upstream.refresh(now));
            }
            () = tokio::time::sleep_until(due) => {
                let now = shared.clock().monotonic();
                let mut pause = CHORES_PERIOD;
                for cluster in shared.clusters.all() {
                    if let Some(interval) = cluster.upstream.tick_interval() {
                        cluster.upstream.tick(now, random.u64(..));
                        pause = pause.min(interval);
                    }
                }
                due = tokio::time::Instant::now() + pause.max(CHORES_PAUSE_MIN);
            }
        }
    }
}

/// Starts the admin interface, if there is to be one.
fn admin(
    options: &Options,
    shared: &Arc<Shared>,
    settings: ostro_engine::Bootstrap,
    proxy: Proxy,
    levels: LogLevels,
    started: Instant,
) -> Result<Option<AdminHandle>, StartError> {
    let Some(admin) = settings.admin else { return Ok(None) };
    let listener = std::net::TcpListener::bind(admin.address)?;
    let handle = crate::admin::serve(
        listener,
        Arc::new(Admin {
            command_line: crate::admin::command_line(options, proxy.concurrency()),
            subject: Arc::new(proxy),
            stats: shared.stats.clone(),
            tags: Tags::new(&settings.stats).map_err(|error| StartError::Invalid(error.to_string()))?,
            buckets: Buckets::new(&settings.stats),
            matcher: settings.stats.matcher,
            logs: shared.logs.clone(),
            levels,
            runtime: settings.runtime,
            started,
            settings: admin,
        }),
    )?;
    if let Some(path) = &options.admin_address_path {
        write_address(path, handle.address())?;
    }
    Ok(Some(handle))
}

/// Writes the admin interface's address where launchers look for it.
fn write_address(path: &std::path::Path, address: SocketAddr) -> std::io::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?
        .write_all(address.to_string().as_bytes())
}

/// Waits for a signal, then lets what is under way end, within the drain time; a second signal ends it. Where somebody has
/// drained the proxy before (`/drain_listeners`), the time counts from then.
async fn end(shared: &Shared, control: &RefCell<Control>) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = reopen.recv() => shared.logs.reopen(),
        }
    }
    control.borrow_mut().drain(Scope::All);
    control.borrow_mut().close(Scope::All);
    let latest = control.borrow().drained_at();
    tokio::select! {
        () = shared.connections.none() => {}
        () = tokio::time::sleep_until(latest) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
