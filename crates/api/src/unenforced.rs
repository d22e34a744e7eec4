//! What is accepted and not enforced, where silence would leave someone less safe than they think.

use std::sync::Arc;

use crate::complaint::{Complaint, Severity};
use crate::destination_rule::{ClientTlsMode, ClientTlsSettings, TrafficPolicy};
use crate::gateway::ServerTlsMode;
use crate::object::{Object, Spec};
use crate::service_entry::Resolution;

/// Kinds of Istio's that secure a mesh and that nothing here acts upon yet.
const SECURITY_KINDS: &[&str] = &["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"];

/// The parts of an accepted object that secure something and are not enforced: policies of
/// security.istio.io, and TLS that needs certificates brought to the proxy; and hosts that
/// nothing leads to yet. Each complaint is an error whose `found` names
/// the part; whoever applies objects must refuse the object or say so loudly.
pub fn unenforced(object: &Object) -> Vec<Complaint> {
    let mut said = Said { object, complaints: Vec::new() };
    match &object.spec {
        Spec::Other(other) => {
            let group = other.api_version.split('/').next().unwrap_or_default();
            if group == "security.istio.io" && SECURITY_KINDS.contains(&other.kind.as_str()) {
                said.say(String::new(), other.kind.clone());
            }
        }
        Spec::DestinationRule(rule) => {
            if let Some(policy) = &rule.traffic_policy {
                said.policy("spec.trafficPolicy", policy);
            }
            for (index, subset) in rule.subsets.iter().enumerate() {
                if let Some(policy) = &subset.traffic_policy {
                    said.policy(&format!("spec.subsets[{index}].trafficPolicy"), policy);
                }
            }
        }
        Spec::Gateway(gateway) => {
            for (index, server) in gateway.servers.iter().enumerate() {
                let Some(tls) = &server.tls else { continue };
                if !matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough) {
                    said.say(
                        format!("spec.servers[{index}].tls.mode"),
                        format!("TLS of mode {}", tls.mode.as_str()),
                    );
                }
            }
        }
        Spec::ServiceEntry(entry) if entry.resolution == Resolution::DynamicDns => {
            said.say("spec.resolution".to_owned(), "DYNAMIC_DNS".to_owned());
        }
        _ => {}
    }
    said.complaints
}

struct Said<'a> {
    object: &'a Object,
    complaints: Vec<Complaint>,
}

impl Said<'_> {
    fn policy(&mut self, path: &str, policy: &TrafficPolicy) {
        self.tls(&format!("{path}.tls"), policy.tls.as_ref());
        for (index, port) in policy.port_level_settings.iter().enumerate() {
            self.tls(&format!("{path}.portLevelSettings[{index}].tls"), port.tls.as_ref());
        }
    }

    fn tls(&mut self, path: &str, tls: Option<&ClientTlsSettings>) {
        let Some(tls) = tls else { return };
        // Certificates from files are read by the proxy itself; all others have to be brought to it.
        if tls.mode == ClientTlsMode::IstioMutual || !tls.credential_name.is_empty() {
            self.say(format!("{path}.mode"), format!("TLS of mode {}", tls.mode.as_str()));
        }
    }

    fn say(&mut self, path: String, part: String) {
        self.complaints.push(Complaint {
            file: Arc::clone(&self.object.origin.file),
            line: self.object.origin.line,
            column: 0,
            object: Some(self.object.key()),
            path,
            found: format!("{part}, which is not enforced yet"),
            allowed: "none until it is".to_owned(),
            severity: Severity::Error,
        });
    }
}
