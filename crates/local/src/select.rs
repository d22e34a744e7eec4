//! Which pod is meant: by its name, by the beginning of it, or by its workload. Pure.

use crate::api::view::Pod;
use ostro_api::similar;

/// Candidates that a message lists.
const LISTED_MAX: usize = 10;

/// Why no pod is meant, or more than one. The user's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// None is called so.
    #[error("no pod or workload `{wanted}`{place}{hint}{listed}")]
    Unknown {
        /// As typed.
        wanted: String,
        /// ` in namespace X`, or nothing.
        place: String,
        /// `; did you mean X?`, or nothing.
        hint: String,
        /// What there is.
        listed: String,
    },
    /// More than one is.
    #[error("`{wanted}` may be any of {count} pods; say more of its name, or -n NAMESPACE{listed}")]
    Ambiguous {
        /// As typed.
        wanted: String,
        /// How many.
        count: usize,
        /// Which.
        listed: String,
    },
    /// What is before the slash is no kind.
    #[error("no kind `{kind}`{hint}")]
    Kind {
        /// As typed.
        kind: String,
        /// `; did you mean X?`, or what could be written.
        hint: String,
    },
    /// The pod has no such container.
    #[error("pod {pod} has no container `{container}`{hint}\n  its containers: {containers}")]
    Container {
        /// The pod.
        pod: String,
        /// As typed.
        container: String,
        /// `; did you mean X?`, or nothing.
        hint: String,
        /// What it has.
        containers: String,
    },
}

/// The pod that is meant. Of a workload's pods the first that takes requests.
pub fn pod<'a>(pods: &'a [Pod], wanted: &str, namespace: Option<&str>) -> Result<&'a Pod, SelectError> {
    let near: Vec<&Pod> = pods.iter().filter(|pod| namespace.is_none_or(|ns| pod.namespace == ns)).collect();
    let (kind, name) = match wanted.split_once('/') {
        Some((kind, name)) => (Some(self::kind(kind)?), name),
        None => (None, wanted),
    };
    let is_pod = |pod: &&&Pod| pod.name == name && kind.is_none_or(|kind| kind == "Pod");
    let is_of = |pod: &&&Pod| pod.workload.name == name && kind.is_none_or(|kind| kind == pod.workload.kind);
    let begins = |pod: &&&Pod| pod.name.starts_with(name) && kind.is_none_or(|kind| kind == "Pod");
    let by_name: Vec<&Pod> = near.iter().filter(is_pod).copied().collect();
    if !by_name.is_empty() {
        return one(by_name, wanted);
    }
    let of_workload: Vec<&Pod> = near.iter().filter(is_of).copied().collect();
    if let Some(first) = of_workload.first() {
        let same = |pod: &&Pod| pod.workload == first.workload && pod.namespace == first.namespace;
        return if of_workload.iter().all(same) {
            Ok(best(&of_workload, first))
        } else {
            one(of_workload, wanted)
        };
    }
    let by_prefix: Vec<&Pod> = near.iter().filter(begins).filter(|_| !name.is_empty()).copied().collect();
    if by_prefix.is_empty() { Err(unknown(&near, wanted, name, namespace)) } else { one(by_prefix, wanted) }
}

fn kind(typed: &str) -> Result<&'static str, SelectError> {
    similar::kind(typed).map_err(|near| SelectError::Kind {
        kind: typed.to_owned(),
        hint: match near {
            Some(near) => format!("; did you mean `{near}`?"),
            None => {
                "; pods are found by NAME, pod/NAME or KIND/NAME of their workload, such as deploy/reviews"
                    .to_owned()
            }
        },
    })
}

/// One that takes requests; else one that is not on its way out; else any.
fn best<'a>(pods: &[&'a Pod], any: &'a Pod) -> &'a Pod {
    let ready = pods.iter().find(|pod| pod.ready);
    ready.or_else(|| pods.iter().find(|pod| pod.status != "Terminating")).copied().unwrap_or(any)
}

fn one<'a>(pods: Vec<&'a Pod>, wanted: &str) -> Result<&'a Pod, SelectError> {
    match pods.as_slice() {
        [pod] => Ok(pod),
        _ => Err(SelectError::Ambiguous {
            wanted: wanted.to_owned(),
            count: pods.len(),
            listed: list(pods.iter().map(|pod| format!("{} -n {}", pod.name, pod.namespace))),
        }),
    }
}

fn unknown(pods: &[&Pod], wanted: &str, name: &str, namespace: Option<&str>) -> SelectError {
    let names = pods.iter().flat_map(|pod| [pod.name.as_str(), pod.workload.name.as_str()]);
    let hint = similar::did_you_mean(name, names);
    let mut workloads: Vec<String> = pods
        .iter()
        .map(|pod| format!("{}/{} -n {}", pod.workload.kind.to_lowercase(), pod.workload.name, pod.namespace))
        .collect();
    workloads.dedup();
    SelectError::Unknown {
        wanted: wanted.to_owned(),
        place: namespace.map(|ns| format!(" in namespace {ns}")).unwrap_or_default(),
        listed: match hint.is_empty() {
            true if workloads.is_empty() => "; there are none".to_owned(),
            true => format!("; there are:{}", list(workloads.into_iter())),
            false => String::new(),
        },
        hint,
    }
}

fn list(lines: impl Iterator<Item = String>) -> String {
    let lines: Vec<String> = lines.collect();
    let mut text: String = lines.iter().take(LISTED_MAX).map(|line| format!("\n  {line}")).collect();
    if let Some(more) = lines.len().checked_sub(LISTED_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("\n  and {more} more (ostro ps)"));
    }
    text
}

/// The container that is meant: the one named, else the pod's first.
pub fn container<'a>(pod: &'a Pod, wanted: Option<&'a str>) -> Result<Option<&'a str>, SelectError> {
    let names = || pod.containers.iter().map(String::as_str);
    match wanted {
        None => Ok(names().next()),
        Some(wanted) if names().any(|name| name == wanted) => Ok(Some(wanted)),
        Some(wanted) => Err(SelectError::Container {
            pod: pod.name.clone(),
            container: wanted.to_owned(),
            hint: similar::did_you_mean(wanted, names()),
            containers: pod.containers.join(", "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::view::Workload;

    fn pods() -> Vec<Pod> {
        let pod = |namespace: &str, name: &str, workload: &str, ready| Pod {
            namespace: namespace.into(),
            name: name.into(),
            workload: Workload { kind: "Deployment".into(), name: workload.into() },
            containers: vec!["main".into(), "helper".into()],
            ready,
            ready_containers: [0, 2],
            status: "Running".into(),
            restarts: 0,
            proxy: "envoy".into(),
            addresses: Vec::new(),
            started: 0,
            held: None,
        };
        vec![
            pod("shop", "reviews-v1-1111-0", "reviews-v1", false),
            pod("shop", "reviews-v1-1111-1", "reviews-v1", true),
            pod("shop", "reviews-v2-2222-0", "reviews-v2", true),
            pod("test", "reviews-v2-2222-0", "reviews-v2", true),
        ]
    }

    fn found(wanted: &str, namespace: Option<&str>) -> Result<String, SelectError> {
        pod(&pods(), wanted, namespace).map(|pod| format!("{}/{}", pod.namespace, pod.name))
    }

    #[test]
    fn by_name_workload_or_beginning() {
        for (wanted, namespace, expected) in [
            ("reviews-v1-1111-0", None, "shop/reviews-v1-1111-0"),
            ("pod/reviews-v1-1111-0", None, "shop/reviews-v1-1111-0"),
            ("reviews-v1", None, "shop/reviews-v1-1111-1"),
            ("deploy/reviews-v1", None, "shop/reviews-v1-1111-1"),
            ("reviews-v2", Some("test"), "test/reviews-v2-2222-0"),
            ("reviews-v2-2", Some("shop"), "shop/reviews-v2-2222-0"),
        ] {
            assert_eq!(found(wanted, namespace).as_deref(), Ok(expected), "{wanted}");
        }
    }

    #[test]
    fn what_is_not_clear_is_said() {
        assert!(matches!(found("reviews-v2", None), Err(SelectError::Ambiguous { count: 2, .. })));
        assert!(matches!(found("reviews", None), Err(SelectError::Ambiguous { count: 4, .. })));
        assert!(matches!(found("", None), Err(SelectError::Unknown { .. })));
        assert!(matches!(found("sts/reviews-v1", None), Err(SelectError::Unknown { .. })));
        assert!(matches!(found("deplo/reviews-v1", None), Err(SelectError::Kind { .. })));
        let error = found("reviws-v1", None).unwrap_err().to_string();
        assert_eq!(error, "no pod or workload `reviws-v1`; did you mean `reviews-v1`?");
    }

    #[test]
    fn containers_by_name_or_the_first() {
        let pods = pods();
        assert_eq!(container(&pods[0], None), Ok(Some("main")));
        assert_eq!(container(&pods[0], Some("helper")), Ok(Some("helper")));
        assert!(container(&pods[0], Some("x")).is_err());
    }
}
