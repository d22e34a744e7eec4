//! The ingress gateway a mesh gets if its YAML brings none: what an Istio installation calls
//! `istio-ingressgateway`, so that public examples find it.

use ostro_api::{Object, parse_file};
use serde_json::{Value, json};

/// Its namespace.
pub const NAMESPACE: &str = "istio-system";
const NAME: &str = "istio-ingressgateway";

/// File name and content of its objects.
pub fn files() -> [(String, Value); 2] {
    let labels = json!({"app": NAME, "istio": "ingressgateway"});
    let port = |name: &str, port: u16, target: u16| json!({"name": name, "port": port, "targetPort": target});
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]},
            },
        },
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "type": "LoadBalancer",
            "selector": labels,
            "ports": [
                port("status-port", 15021, 15021),
                port("http2", 80, 8080),
                port("https", 443, 8443),
                port("tcp", 31400, 31400),
            ],
        },
    });
    [("ingress.deployment.json".to_owned(), deployment), ("ingress.service.json".to_owned(), service)]
}

/// The same as objects.
pub fn objects() -> Vec<Object> {
    let parse = |(name, value): (String, Value)| parse_file(name, value.to_string().as_bytes()).objects;
    files().into_iter().flat_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_accepted_as_any_users_objects_are() {
        for (name, value) in files() {
            let parsed = parse_file(name, value.to_string().as_bytes());
            assert!(parsed.complaints.is_empty(), "{:?}", parsed.complaints);
        }
        assert_eq!(objects().len(), 2);
    }
}
