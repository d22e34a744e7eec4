//! What is said about objects that are not acted upon: each kind once, and where silence could be mistaken
//! for protection, each object.

use ostro_api::{Complaint, Kind, Object, ObjectKey, Origin, Spec, similar, unenforced};
use std::collections::BTreeSet;
use std::fmt;

/// Most kinds and objects remembered as mentioned; beyond that nothing more is said.
const MAX_MENTIONED: usize = 10_000;

/// One thing to say, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A kind is not acted upon.
    Kind(Kind),
    /// A kind is not acted upon, and looks like a slip of one that is.
    Slip(Box<Complaint>),
    /// An object that should restrict traffic does not. Where it is written.
    Unenforced(ObjectKey, Origin),
    /// An object demands TLS that cannot be had yet: connections under it are not made.
    Unavailable(Box<Complaint>),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Kind(kind) => write!(f, "{kind}: accepted, not acted upon"),
            Notice::Slip(complaint) => write!(f, "{complaint}"),
            Notice::Unenforced(key, origin) => {
                write!(f, "{origin}: {key}: NOT ENFORCED, this kind is not acted upon")
            }
            Notice::Unavailable(complaint) => write!(f, "NO CONNECTIONS are made under this: {complaint}"),
        }
    }
}

/// What has been said already.
#[derive(Debug, Default)]
pub struct Notices {
    kinds: BTreeSet<Kind>,
    unenforced: BTreeSet<ObjectKey>,
}

impl Notices {
    /// What has to be said about an object that came into force.
    pub fn about(&mut self, object: &Object) -> Option<Notice> {
        let Spec::Other(other) = &object.spec else { return self.about_tls(object) };
        if self.kinds.len() + self.unenforced.len() >= MAX_MENTIONED {
            return None;
        }
        if restricts(&other.api_version, &other.kind) {
            return self
                .unenforced
                .insert(object.key())
                .then(|| Notice::Unenforced(object.key(), object.origin.clone()));
        }
        let is_new = self.kinds.insert(object.meta.kind);
        match similar::about_kind(object) {
            Some(slip) => Some(Notice::Slip(Box::new(slip))),
            None => is_new.then_some(Notice::Kind(object.meta.kind)),
        }
    }

    /// Once per object: an edit that leaves it so is not news.
    fn about_tls(&mut self, object: &Object) -> Option<Notice> {
        let complaint = unenforced(object).into_iter().next()?;
        let is_new = self.unenforced.len() < MAX_MENTIONED && self.unenforced.insert(object.key());
        is_new.then(|| Notice::Unavailable(Box::new(complaint)))
    }
}

/// True for kinds that restrict who may talk to whom, or how: a user who wrote one believes that it holds.
fn restricts(api_version: &str, kind: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    group == "security.istio.io" || (group, kind) == ("networking.k8s.io", "NetworkPolicy")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        let parsed = ostro_api::parse_file("a.yaml", text.as_bytes());
        assert_eq!(parsed.complaints, []);
        let mut notices = Notices::default();
        parsed
            .objects
            .iter()
            .filter_map(|object| notices.about(object))
            .map(|notice| notice.to_string())
            .collect()
    }

    fn document(api_version: &str, kind: &str, name: &str) -> String {
        format!("---\napiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{}}\n")
    }

    #[test]
    fn a_kind_is_named_once_and_a_restriction_by_object() {
        let text = [
            document("networking.istio.io/v1alpha3", "EnvoyFilter", "one"),
            document("networking.istio.io/v1alpha3", "EnvoyFilter", "two"),
            document("security.istio.io/v1", "AuthorizationPolicy", "deny-all"),
            document("security.istio.io/v1", "AuthorizationPolicy", "allow-some"),
            document("networking.k8s.io/v1", "NetworkPolicy", "closed"),
            document("v1", "ServiceAccount", "acted-upon"),
            document("v1", "Servise", "slip"),
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: mtls}\nspec: {host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}\n".to_owned(),
        ];
        let mut told = said(&text.concat());
        let tls = told.pop().unwrap();
        assert!(tls.starts_with("NO CONNECTIONS") && tls.contains("ISTIO_MUTUAL"), "{tls}");
        let slip = told.pop().unwrap();
        assert_eq!(slip, "a.yaml:32: no kind `Servise`; did you mean `Service`?");
        assert_eq!(told.len(), 4, "{told:#?}");
        assert!(told[0].starts_with("EnvoyFilter") && told[0].ends_with("not acted upon"), "{told:#?}");
        for (line, name) in told[1..].iter().zip(["default/deny-all", "default/allow-some", "default/closed"])
        {
            assert!(
                line.starts_with("a.yaml:") && line.contains(name) && line.contains("NOT ENFORCED"),
                "{line}"
            );
        }
    }
}
