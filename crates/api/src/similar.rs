//! "Did you mean": the nearest of what could have been meant, and names of kinds as people type them.

use crate::complaint::{Complaint, DID_YOU_MEAN, Severity};
use crate::object::{Kind, Object};

/// Longest word that is compared; nobody mistypes longer ones by a letter.
const WORD_MAX: usize = 64;

/// The candidate nearest to `word`, if it is near enough to have been meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `; did you mean X?`, or nothing.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map(|found| format!("; did you mean `{found}`?")).unwrap_or_default()
}

/// Letters to insert, delete, replace, or swap with their neighbours; `usize::MAX` for long words.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().max(b.len()) > WORD_MAX {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut least =
                (at(&last, j) + usize::from(from != to)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(to) && b.get(j - 1) == Some(from);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

/// Kinds, with the short names that `kubectl` has for them.
const KINDS: &[(&str, &[&str])] = &[
    ("Namespace", &["ns"]),
    ("Node", &["no"]),
    ("Service", &["svc"]),
    ("EndpointSlice", &[]),
    ("Endpoints", &["ep"]),
    ("Pod", &["po"]),
    ("ServiceAccount", &["sa"]),
    ("Deployment", &["deploy"]),
    ("StatefulSet", &["sts"]),
    ("DaemonSet", &["ds"]),
    ("ReplicaSet", &["rs"]),
    ("Job", &[]),
    ("ConfigMap", &["cm"]),
    ("VirtualService", &["vs"]),
    ("DestinationRule", &["dr"]),
    ("Gateway", &["gw"]),
    ("ServiceEntry", &["se"]),
    ("WorkloadEntry", &["we"]),
];

/// What acts on objects of Istio and Kubernetes that this mesh does not act upon; not to be taken for slips.
const OTHERS: &[&str] = &[
    "AuthorizationPolicy",
    "ControllerRevision",
    "CronJob",
    "EnvoyFilter",
    "Event",
    "HTTPRoute",
    "Ingress",
    "Lease",
    "NetworkPolicy",
    "PeerAuthentication",
    "PodTemplate",
    "ProxyConfig",
    "RequestAuthentication",
    "Role",
    "RoleBinding",
    "Secret",
    "Sidecar",
    "Telemetry",
    "WasmPlugin",
    "WorkloadGroup",
];

/// Groups that the kinds above are of: elsewhere every kind is somebody's own.
const GROUPS: &[&str] = &["", "apps", "batch", "discovery.k8s.io", "networking.istio.io"];

/// The kind that is meant by what was typed: any case, short or plural. Else what may have been
/// meant.
pub fn kind(typed: &str) -> Result<&'static str, Option<&'static str>> {
    let lower = typed.to_lowercase();
    let all =
        KINDS.iter().map(|(kind, short)| (*kind, *short)).chain(OTHERS.iter().map(|kind| (*kind, &[][..])));
    for (kind, short) in all {
        let singular = kind.to_lowercase();
        let plural = match singular.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None if singular.ends_with('s') => format!("{singular}es"),
            None => format!("{singular}s"),
        };
        if lower == singular || lower == plural || short.contains(&lower.as_str()) {
            return Ok(kind);
        }
    }
    // Of two letters everything is a neighbour.
    let short = KINDS.iter().flat_map(|(_, short)| short.iter().copied()).filter(|short| short.len() > 2);
    Err(nearest(typed, KINDS.iter().map(|(kind, _)| *kind).chain(short)))
}

/// The kind that was meant, if this one looks like a slip of it: not acted upon, and nearly one that is.
pub fn slip(kind: Kind) -> Option<&'static str> {
    let Kind::Other(full) = kind else { return None };
    let (word, group) = full.as_str().split_once('.').unwrap_or((full.as_str(), ""));
    if !GROUPS.contains(&group) || OTHERS.contains(&word) {
        return None;
    }
    nearest(word, KINDS.iter().map(|(kind, _)| *kind))
}

/// The complaint about an object whose kind is a slip of the keyboard; nobody means a kind that there is not.
pub fn about_kind(object: &Object) -> Option<Complaint> {
    let Kind::Other(full) = object.meta.kind else { return None };
    let meant = slip(object.meta.kind)?;
    let word = full.as_str().split_once('.').map_or(full.as_str(), |(word, _)| word);
    Some(Complaint {
        file: object.origin.file.clone(),
        line: object.origin.line,
        column: 0,
        object: None,
        path: String::new(),
        found: format!("no kind `{word}`"),
        allowed: format!("{DID_YOU_MEAN}`{meant}`?"),
        severity: Severity::Error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_or_two_may_be_wrong() {
        let words = ["reviews", "ratings", "details"];
        assert_eq!(nearest("reviws", words), Some("reviews"));
        assert_eq!(nearest("raitngs", words), Some("ratings"));
        assert_eq!(nearest("productpage", words), None);
        assert_eq!(nearest("x", words), None);
        assert_eq!(nearest(&"a".repeat(10_000), words), None);
    }

    #[test]
    fn kinds_are_known_by_any_of_their_names() {
        for (typed, expected) in [
            ("deploy", "Deployment"),
            ("Deployments", "Deployment"),
            ("vs", "VirtualService"),
            ("authorizationpolicies", "AuthorizationPolicy"),
            ("endpoints", "Endpoints"),
        ] {
            assert_eq!(kind(typed), Ok(expected), "{typed}");
        }
        assert_eq!(kind("deploymnet"), Err(Some("Deployment")));
        assert_eq!(kind("deplyo"), Err(Some("deploy")));
        assert_eq!(kind("teapot"), Err(None));
    }

    #[test]
    fn a_kind_of_somebody_elses_is_no_slip() {
        let other = |name: &str| Kind::Other(ostro_names::Name::new(name));
        assert_eq!(slip(other("Deploymnet.apps")), Some("Deployment"));
        assert_eq!(slip(other("VirtualServices.networking.istio.io")), Some("VirtualService"));
        assert_eq!(slip(other("Gatewey.example.com")), None);
        assert_eq!(slip(other("Secret")), None);
        assert_eq!(slip(Kind::Service), None);
    }
}
