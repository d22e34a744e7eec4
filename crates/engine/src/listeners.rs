//! All listeners of a proxy, and which one a connection belongs to.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::Listener;

/// Listeners by name, and by the addresses they answer for.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    by_name: HashMap<String, Arc<Listener>>,
    by_address: HashMap<SocketAddr, Arc<Listener>>,
}

impl Listeners {
    /// Adds a listener, or replaces the one of its name. Of two listeners for one address the one added last
    /// answers, as in Envoy, where the second fails to bind or takes over.
    pub fn insert(&mut self, listener: Listener) {
        self.put(Arc::new(listener));
    }

    /// The same for a listener that others have too.
    pub fn put(&mut self, listener: Arc<Listener>) {
        self.remove(&listener.name);
        for address in &listener.addresses {
            self.by_address.insert(*address, Arc::clone(&listener));
        }
        self.by_name.insert(listener.name.clone(), listener);
    }

    /// Removes a listener.
    pub fn remove(&mut self, name: &str) {
        let Some(gone) = self.by_name.remove(name) else { return };
        for address in &gone.addresses {
            if self.by_address.get(address).is_some_and(|answering| answering.name == name) {
                self.by_address.remove(address);
            }
        }
    }

    /// The listener of this name.
    pub fn get(&self, name: &str) -> Option<&Listener> {
        self.by_name.get(name).map(Arc::as_ref)
    }

    /// The listener a connection belongs to that arrived at `bound` and was going to `destination` before any
    /// redirection: `bound`'s own, unless that one hands over and another answers for the destination.
    pub fn accept(&self, bound: &str, destination: SocketAddr) -> Option<&Listener> {
        let first = self.get(bound)?;
        if !first.hands_over { Some(first) } else { self.answering(destination).or(Some(first)) }
    }

    /// The listener that answers for an address: one of exactly this address and port, else one of the
    /// unspecified address and the port.
    pub fn answering(&self, to: SocketAddr) -> Option<&Listener> {
        let unspecified: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let find = |ip| self.by_address.get(&SocketAddr::new(ip, to.port()));
        find(to.ip()).or_else(|| find(unspecified)).map(Arc::as_ref)
    }

    /// All listeners, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.by_name.values().map(Arc::as_ref)
    }
}
