//! What a pod reads about names: `/etc/resolv.conf` and `/etc/hosts`, as kubelet writes them.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use crate::plan::PodPlan;
use crate::services::DOMAIN;

/// Of `resolv.conf`: what the C library takes, and Kubernetes allows.
const NAME_SERVERS_MAX: usize = 3;
/// Of `resolv.conf`.
const SEARCH_MAX: usize = 32;

/// What a `resolv.conf` says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Addresses, possibly with a zone behind a `%`.
    pub name_servers: Vec<String>,
    /// Domains to try names in.
    pub search: Vec<String>,
    /// Options, as written.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads one. What is not understood is passed over, as every resolver does.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => conf.name_servers.extend(words.next()),
                // Of several the last counts.
                Some("search" | "domain") => conf.search = words.collect(),
                Some("options") => conf.options.extend(words),
                _ => {}
            }
        }
        conf.name_servers.truncate(NAME_SERVERS_MAX);
        conf
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for server in self.name_servers.iter().take(NAME_SERVERS_MAX) {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.search.is_empty() {
            let search: Vec<&str> = self.search.iter().take(SEARCH_MAX).map(String::as_str).collect();
            let _ = writeln!(text, "search {}", search.join(" "));
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        text
    }
}

/// A pod's `dnsPolicy` and `dnsConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsChoice {
    /// Whose search path and options the pod has.
    pub policy: Policy,
    /// Added to what the policy says.
    pub config: ResolvConf,
}

/// A pod's `dnsPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The cluster's.
    #[default]
    ClusterFirst,
    /// The host's. Its name servers may listen where no pod reaches them, so the mesh's is asked, which
    /// asks them; only the search path tells the difference.
    Default,
    /// None.
    None,
}

/// `/etc/resolv.conf` of a pod, given the mesh's name server and what the host's own file says. The C library takes
/// addresses of servers only, the resolver of a proxy (c-ares) one with a port too.
pub fn resolv_conf(plan: &PodPlan, server: impl Display, host: &ResolvConf) -> String {
    let namespace = &plan.name.namespace;
    let mut conf = match plan.dns.policy {
        Policy::ClusterFirst => {
            let own = [format!("{namespace}.svc.{DOMAIN}"), format!("svc.{DOMAIN}"), DOMAIN.to_owned()];
            let search = own.into_iter().chain(host.search.iter().cloned()).collect();
            ResolvConf { name_servers: vec![server.to_string()], search, options: vec!["ndots:5".to_owned()] }
        }
        Policy::Default => ResolvConf { name_servers: vec![server.to_string()], ..host.clone() },
        Policy::None => ResolvConf::default(),
    };
    let added = &plan.dns.config;
    append(&mut conf.name_servers, &added.name_servers);
    append(&mut conf.search, &added.search);
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    conf.options.retain(|option| !added.options.iter().any(|new| name(new) == name(option)));
    append(&mut conf.options, &added.options);
    conf.to_text()
}

fn append(to: &mut Vec<String>, from: &[String]) {
    for text in from {
        if !to.contains(text) {
            to.push(text.clone());
        }
    }
}

/// `/etc/hosts` of a pod: itself, and the aliases it asks for.
pub fn hosts(plan: &PodPlan, addresses: &[IpAddr]) -> String {
    let mut text = String::from(
        "# As Kubernetes writes it.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         fe00::\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    let name = plan.host_name();
    for address in addresses {
        // Writing to a String cannot fail.
        let _ = match plan.subdomain.as_str() {
            "" => writeln!(text, "{address}\t{name}"),
            under => {
                writeln!(text, "{address}\t{name}.{under}.{}.svc.{DOMAIN}\t{name}", plan.name.namespace)
            }
        };
    }
    for (address, names) in &plan.host_aliases {
        let _ = writeln!(text, "{address}\t{}", names.join("\t"));
    }
    text
}
