//! Names and scopes as people write them: short hosts, `exportTo`.

use std::net::IpAddr;

use ostro_names::{Host, Namespace};

use crate::model::Visibility;

/// The full name of a host that was written in `namespace`: one without a dot is a service there. Wildcards and
/// addresses stay as they are. `None` only if the process can take no more names.
pub fn resolve_host(written: &str, namespace: Namespace, domain: &str) -> Option<Host> {
    if written.contains(['.', '*']) || written.parse::<IpAddr>().is_ok() {
        return Host::try_new(&written.to_ascii_lowercase()).ok();
    }
    service_host(written, namespace, domain)
}

/// The host of a Kubernetes Service.
pub fn service_host(name: &str, namespace: Namespace, domain: &str) -> Option<Host> {
    Host::try_new(&format!("{}.{namespace}.svc.{domain}", name.to_ascii_lowercase())).ok()
}

/// Who sees an object of `namespace` that says `export_to`; `default` (from MeshConfig) speaks where it is silent.
pub(crate) fn visibility<'a>(
    export_to: impl IntoIterator<Item = &'a str>,
    default: &'a [String],
    namespace: Namespace,
) -> Visibility {
    let written: Vec<&str> = export_to.into_iter().map(str::trim).filter(|scope| !scope.is_empty()).collect();
    let scopes = if written.is_empty() { default.iter().map(String::as_str).collect() } else { written };
    if scopes.is_empty() || scopes.contains(&"*") {
        return Visibility::Public;
    }
    let mut namespaces: Vec<Namespace> = scopes
        .into_iter()
        .filter(|scope| *scope != "~")
        .filter_map(|scope| if scope == "." { Some(namespace) } else { Namespace::try_new(scope).ok() })
        .collect();
    namespaces.sort();
    namespaces.dedup();
    Visibility::Namespaces(namespaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_without_a_dot_are_short() {
        let resolve =
            |written| resolve_host(written, Namespace::new("shop"), "cluster.local").unwrap().as_str();
        assert_eq!(resolve("reviews"), "reviews.shop.svc.cluster.local");
        assert_eq!(resolve("reviews.shop"), "reviews.shop");
        assert_eq!(resolve("*"), "*");
        assert_eq!(resolve("*-cached"), "*-cached");
        assert_eq!(resolve("Example.COM"), "example.com");
        assert_eq!(resolve("::1"), "::1");
    }

    #[test]
    fn export_to_in_all_its_forms() {
        let own = Namespace::new("own");
        let seen = |scopes: &[&'static str], default: &[&str]| {
            let default: Vec<String> = default.iter().map(ToString::to_string).collect();
            visibility(scopes.iter().copied(), &default, own)
        };
        let only =
            |names: &[&str]| Visibility::Namespaces(names.iter().map(|name| Namespace::new(name)).collect());
        assert_eq!(seen(&[], &[]), Visibility::Public);
        assert_eq!(seen(&[], &["."]), only(&["own"]));
        assert_eq!(seen(&["*"], &["."]), Visibility::Public);
        assert_eq!(seen(&["~"], &[]), only(&[]));
        assert_eq!(seen(&["b", ".", "a", "b"], &[]), only(&["a", "b", "own"]));
        assert_eq!(seen(&["a", "*"], &[]), Visibility::Public);
        assert_eq!(seen(&[" "], &["x"]), only(&["x"]));
        assert!(seen(&["."], &[]).admits(own) && !seen(&["."], &[]).admits(Namespace::new("other")));
    }
}
