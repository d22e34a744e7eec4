//! Where a case runs: its listener, route, cluster and upstream sockets, as configuration.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::logs::FORMAT;

const HCM: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const OPTIONS: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const OPTIONS_NAME: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The world of one case; its fields are Envoy messages in JSON, changed at will by the case.
pub struct Site {
    pub name: String,
    pub listener: Value,
    pub hcm: Value,
    pub virtual_host: Value,
    pub routes: Vec<Value>,
    pub filters: Vec<Value>,
    pub clusters: Vec<Cluster>,
    /// Set: the listener proxies TCP with this configuration.
    pub tcp: Option<Value>,
    /// Set: the format of the access log, after the case's name.
    pub format: Option<String>,
    /// Replaces the text format by this `log_format`; its lines do not reach the case unless they begin with its name.
    pub log_format: Option<Value>,
    /// Which requests are logged.
    pub log_filter: Option<Value>,
    /// Configuration of the router.
    pub router: Value,
    /// Sockets that must stay as they are: bound but deaf, or full.
    kept: Vec<Kept>,
}

enum Kept {
    Socket { _socket: Socket },
    Stream { _stream: TcpStream },
}

/// A cluster and the sockets behind it, one per endpoint.
pub struct Cluster {
    pub name: String,
    pub config: Value,
    /// `HttpProtocolOptions`.
    pub options: Value,
    pub sockets: Vec<TcpListener>,
    endpoints: Vec<Value>,
    /// It knows its endpoints by itself.
    is_bare: bool,
}

fn put(value: &mut Value, path: &str, new: Value) {
    let mut at = value;
    for key in path.split('.') {
        at = &mut at[key];
    }
    *at = new;
}

fn endpoint(address: SocketAddr) -> Value {
    let at = json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    json!({"endpoint": {"address": at}})
}

impl Cluster {
    fn new(name: String) -> Cluster {
        let config = json!({"connect_timeout": "10s", "type": "STATIC"});
        Cluster {
            name,
            config,
            options: Value::Null,
            sockets: Vec::new(),
            endpoints: Vec::new(),
            is_bare: false,
        }
    }

    /// Adds an endpoint with a socket that the script accepts on.
    pub fn listen(&mut self) -> &mut Cluster {
        let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
        self.endpoints.push(endpoint(socket.local_addr().unwrap()));
        self.sockets.push(socket);
        self
    }

    /// A cluster that knows its endpoints by itself, configured like this.
    pub fn bare(&mut self, config: Value) -> &mut Cluster {
        self.config = config;
        self.is_bare = true;
        self
    }

    /// Its only endpoint is somebody else's.
    pub fn only(&mut self, address: SocketAddr) -> &mut Cluster {
        self.sockets.clear();
        self.endpoints = vec![endpoint(address)];
        self
    }

    /// Sets a field of the cluster.
    pub fn set(&mut self, path: &str, value: Value) -> &mut Cluster {
        put(&mut self.config, path, value);
        self
    }

    /// Sets a field of its `HttpProtocolOptions`.
    pub fn option(&mut self, path: &str, value: Value) -> &mut Cluster {
        put(&mut self.options, path, value);
        self
    }

    /// Speaks HTTP/2 to its endpoints.
    pub fn http2(&mut self) -> &mut Cluster {
        self.option("explicit_http_config.http2_protocol_options", json!({}))
    }

    fn build(&self) -> Value {
        let mut config = self.config.clone();
        config["name"] = self.name.as_str().into();
        if !self.is_bare {
            config["load_assignment"] =
                json!({"cluster_name": self.name, "endpoints": [{"lb_endpoints": self.endpoints}]});
        }
        if !self.options.is_null() {
            let mut options = self.options.clone();
            options["@type"] = OPTIONS.into();
            let any_protocol = ["explicit_http_config", "use_downstream_protocol_config", "auto_config"]
                .map(|key| options.get(key).is_some());
            if !any_protocol.contains(&true) {
                options["explicit_http_config"] = json!({"http_protocol_options": {}});
            }
            config["typed_extension_protocol_options"] = json!({OPTIONS_NAME: options});
        }
        config
    }
}

impl Site {
    pub fn new(name: String) -> Site {
        let mut main = Cluster::new(format!("{name}-main"));
        main.listen();
        let route = json!({
            "match": {"prefix": "/"},
            "route": {"cluster": main.name, "timeout": "0s"},
        });
        Site {
            name,
            listener: json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}),
            // The delay before a refused connection closes is Envoy's; shorter, so that cases end soon.
            hcm: json!({"delayed_close_timeout": "0.05s"}),
            virtual_host: json!({"name": "all", "domains": ["*"]}),
            routes: vec![route],
            filters: Vec::new(),
            clusters: vec![main],
            tcp: None,
            format: None,
            log_format: None,
            log_filter: None,
            router: json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}),
            kept: Vec::new(),
        }
    }

    /// Sets a field of the HTTP connection manager, at a path of names.
    pub fn hcm(&mut self, path: &str, value: Value) -> &mut Site {
        put(&mut self.hcm, path, value);
        self
    }

    /// Sets a field of the first route.
    pub fn route(&mut self, path: &str, value: Value) -> &mut Site {
        put(&mut self.routes[0], path, value);
        self
    }

    /// Puts a route in front of the others.
    pub fn route_before(&mut self, route: Value) -> &mut Site {
        self.routes.insert(0, route);
        self
    }

    pub fn virtual_host(&mut self, path: &str, value: Value) -> &mut Site {
        put(&mut self.virtual_host, path, value);
        self
    }

    pub fn listener(&mut self, path: &str, value: Value) -> &mut Site {
        put(&mut self.listener, path, value);
        self
    }

    /// The cluster that requests go to.
    pub fn main(&mut self) -> &mut Cluster {
        &mut self.clusters[0]
    }

    /// Sets a field of that cluster.
    pub fn cluster(&mut self, path: &str, value: Value) -> &mut Site {
        self.main().set(path, value);
        self
    }

    /// The upstream speaks HTTP/2.
    pub fn http2_upstream(&mut self) -> &mut Site {
        self.main().http2();
        self
    }

    /// A further cluster, named after the case and `name`.
    pub fn further(&mut self, name: &str) -> &mut Cluster {
        let mut cluster = Cluster::new(self.cluster_name(name));
        cluster.listen();
        self.clusters.push(cluster);
        self.clusters.last_mut().expect("just pushed")
    }

    pub fn cluster_name(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Puts an HTTP filter in front of the router.
    pub fn filter(&mut self, name: &str, kind: &str, mut config: Value) -> &mut Site {
        config["@type"] = format!("type.googleapis.com/{kind}").into();
        self.filters.push(json!({"name": name, "typed_config": config}));
        self
    }

    /// Proxies TCP to the main cluster.
    pub fn tcp(&mut self) -> &mut Site {
        self.tcp = Some(json!({}));
        self
    }

    pub fn tcp_set(&mut self, path: &str, value: Value) -> &mut Site {
        put(self.tcp.get_or_insert(json!({})), path, value);
        self
    }

    /// The main cluster's only endpoint refuses connections: its port is bound, and nobody listens.
    pub fn refusing(&mut self) -> &mut Site {
        self.main().sockets.clear();
        self.main().endpoints.clear();
        self.add_refusing()
    }

    /// A further endpoint that refuses connections.
    pub fn add_refusing(&mut self) -> &mut Site {
        let socket = bound();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        self.main().endpoints.push(endpoint(address));
        self.kept.push(Kept::Socket { _socket: socket });
        self
    }

    /// The main cluster's only endpoint answers no SYN: its queue is full.
    pub fn unreachable(&mut self) -> &mut Site {
        let socket = bound();
        socket.listen(0).expect("listen");
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        // One more than the backlog fills the queue; this connection is never accepted.
        let stream = TcpStream::connect(address).expect("connect");
        self.main().sockets.clear();
        self.main().endpoints = vec![endpoint(address)];
        self.kept.push(Kept::Socket { _socket: socket });
        self.kept.push(Kept::Stream { _stream: stream });
        self
    }

    /// The main cluster has no endpoint.
    pub fn empty(&mut self) -> &mut Site {
        self.main().sockets.clear();
        self.main().endpoints.clear();
        self
    }

    fn access_log(&self, logs: &Path) -> Value {
        let format = format!("{}\t{}\n", self.name, self.format.as_deref().unwrap_or(FORMAT));
        let format = self
            .log_format
            .clone()
            .unwrap_or_else(|| json!({"text_format_source": {"inline_string": format}}));
        let mut log = json!({
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": logs,
                "log_format": format,
            },
        });
        if let Some(filter) = &self.log_filter {
            log["filter"] = filter.clone();
        }
        json!([log])
    }

    fn network_filter(&self, logs: &Path) -> Value {
        if let Some(tcp) = &self.tcp {
            let mut config = tcp.clone();
            config["@type"] =
                "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy".into();
            config["stat_prefix"] = self.name.as_str().into();
            config["access_log"] = self.access_log(logs);
            if config.get("cluster").is_none() && config.get("weighted_clusters").is_none() {
                config["cluster"] = self.clusters[0].name.as_str().into();
            }
            return json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": config});
        }
        let mut hcm = self.hcm.clone();
        hcm["@type"] = HCM.into();
        hcm["stat_prefix"] = self.name.as_str().into();
        hcm["access_log"] = self.access_log(logs);
        let mut host = self.virtual_host.clone();
        host["routes"] = self.routes.clone().into();
        if hcm.get("route_config").is_none() {
            hcm["route_config"] = json!({"name": self.name});
        }
        hcm["route_config"]["virtual_hosts"] = json!([host]);
        let mut filters = self.filters.clone();
        filters.push(json!({"name": "envoy.filters.http.router", "typed_config": self.router}));
        hcm["http_filters"] = filters.into();
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm})
    }

    fn build(&self, logs: &Path) -> Value {
        let mut listener = self.listener.clone();
        listener["name"] = self.name.as_str().into();
        let chain = json!({"filters": [self.network_filter(logs)]});
        listener["filter_chains"] = json!([chain]);
        listener
    }
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind");
    socket
}

/// The bootstrap of a process that serves all these sites.
pub fn bootstrap(sites: &[Site], logs: &Path) -> Value {
    let listeners: Vec<Value> = sites.iter().map(|site| site.build(logs)).collect();
    let clusters: Vec<Value> = sites.iter().flat_map(|site| &site.clusters).map(Cluster::build).collect();
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}})
}
