//! Which protocols a stream may be upgraded to: `websocket`, `CONNECT` and others by name.

use envoy_types::pb::envoy::config::route::v3::route_action::UpgradeConfig as RouteProto;
use envoy_types::pb::envoy::config::route::v3::route_action::upgrade_config::ConnectConfig;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::UpgradeConfig as Proto;

use crate::Refusal;
use crate::proto::flag;
use crate::refusal::Within;

/// Upgrades by name, each allowed or not.
#[derive(Clone, Debug, Default)]
pub struct Upgrades {
    /// Names have no case.
    kinds: Vec<(Box<str>, bool)>,
    /// Is a CONNECT request's payload sent to the upstream as it is, the tunnel ending here?
    pub terminates_connect: bool,
    /// Is that of a POST request, too?
    pub terminates_post: bool,
}

impl Upgrades {
    pub(super) fn of_manager(protos: &[Proto]) -> Result<Upgrades, Refusal> {
        let mut upgrades = Upgrades::default();
        for proto in protos {
            let Proto { upgrade_type, filters, enabled } = proto;
            let one = || {
                refuse_if_set!(filters);
                Ok(flag(enabled.as_ref(), true))
            };
            let enabled = one().within(|| format!("upgrade_configs[{upgrade_type}]"))?;
            upgrades.add(upgrade_type, enabled)?;
        }
        Ok(upgrades)
    }

    pub(crate) fn of_route(protos: &[RouteProto]) -> Result<Upgrades, Refusal> {
        let mut upgrades = Upgrades::default();
        for proto in protos {
            let RouteProto { upgrade_type, enabled, connect_config } = proto;
            upgrades.add(upgrade_type, flag(enabled.as_ref(), true))?;
            let Some(ConnectConfig { proxy_protocol_config, allow_post }) = connect_config else { continue };
            let place = || format!("upgrade_configs[{upgrade_type}].connect_config");
            let one = || {
                refuse_if_set!(proxy_protocol_config);
                Ok(())
            };
            one().within(place)?;
            if !upgrade_type.eq_ignore_ascii_case("CONNECT") {
                return Err(Refusal::invalid("only for CONNECT").within(place()));
            }
            upgrades.terminates_connect = true;
            upgrades.terminates_post = *allow_post;
        }
        Ok(upgrades)
    }

    fn add(&mut self, kind: &str, enabled: bool) -> Result<(), Refusal> {
        if self.says(kind.as_bytes()).is_some() {
            return Err(Refusal::invalid(format!("upgrade_configs: {kind} twice")));
        }
        self.kinds.push((kind.into(), enabled));
        Ok(())
    }

    /// Whether anything is said of an upgrade of this kind, and what.
    fn says(&self, kind: &[u8]) -> Option<bool> {
        let found = self.kinds.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(kind));
        found.map(|(_, enabled)| *enabled)
    }

    /// Whether a stream may be upgraded to this kind: as its route says, else as the manager does.
    pub fn allows(&self, kind: &[u8], route: Option<&Upgrades>) -> bool {
        let of_route = route.and_then(|route| route.says(kind));
        of_route.or_else(|| self.says(kind)).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::BoolValue;

    use super::*;

    fn manager(kinds: &[(&str, Option<bool>)]) -> Upgrades {
        let proto = |(kind, enabled): &(&str, Option<bool>)| Proto {
            upgrade_type: (*kind).to_owned(),
            filters: Vec::new(),
            enabled: enabled.map(|value| BoolValue { value }),
        };
        Upgrades::of_manager(&kinds.iter().map(proto).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_route_has_the_last_word() {
        let manager = manager(&[("websocket", None), ("h2c", Some(false))]);
        assert!(manager.allows(b"WebSocket", None));
        assert!(!manager.allows(b"h2c", None) && !manager.allows(b"other", None));
        let proto = |kind: &str, value| RouteProto {
            upgrade_type: kind.to_owned(),
            enabled: Some(BoolValue { value }),
            connect_config: None,
        };
        let route = Upgrades::of_route(&[proto("websocket", false), proto("h2c", true)]).unwrap();
        assert!(!manager.allows(b"websocket", Some(&route)) && manager.allows(b"h2c", Some(&route)));
        assert!(Upgrades::of_route(&[proto("a", true), proto("A", true)]).is_err());
    }

    #[test]
    fn connect_may_end_here() {
        let proto = |kind: &str| RouteProto {
            upgrade_type: kind.to_owned(),
            enabled: None,
            connect_config: Some(ConnectConfig { proxy_protocol_config: None, allow_post: true }),
        };
        let route = Upgrades::of_route(&[proto("CONNECT")]).unwrap();
        assert!(route.terminates_connect && route.terminates_post);
        assert!(Upgrades::of_route(&[proto("websocket")]).is_err());
    }
}
