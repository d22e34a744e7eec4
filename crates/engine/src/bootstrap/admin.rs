//! Settings of the admin interface.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_types::pb::envoy::config::bootstrap::v3::Admin as Proto;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;

use crate::listener::socket_address;
use crate::refusal::{Within, is, unpack};
use crate::{Refusal, TextMatcher};

/// Where the admin interface is, and what it answers.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// Paths that are answered; all, if there are none here.
    pub paths: Vec<TextMatcher>,
}

impl AdminSettings {
    /// `None`: no admin interface, as Envoy has it where no address is given.
    pub(super) fn compile(proto: Proto) -> Result<Option<AdminSettings>, Refusal> {
        check(&proto)?;
        let Some(address) = &proto.address else { return Ok(None) };
        let (address, _) = socket_address(address).within(|| "address".to_owned())?;
        let mut paths = Vec::new();
        for (i, path) in proto.allow_paths.iter().enumerate() {
            paths.push(TextMatcher::compile(path).within(|| format!("allow_paths[{i}]"))?);
        }
        for (i, log) in proto.access_log.iter().enumerate() {
            check_log(log).within(|| format!("access_log[{i}]"))?;
        }
        Ok(Some(AdminSettings { address, paths }))
    }
}

/// There are no profiles to be written to `profile_path`; the admin interface's few connections are counted in no limit.
#[allow(deprecated, reason = "a deprecated field that is set must be seen to be refused")]
fn check(proto: &Proto) -> Result<(), Refusal> {
    fates!(proto: Proto {
        compiled: address, access_log, allow_paths;
        carried: profile_path, access_log_path, ignore_global_conn_limit;
        refused: socket_options;
    });
    if !matches!(proto.access_log_path.as_str(), "" | NOWHERE) {
        return Err(Refusal::unsupported(format!("access_log_path {:?}", proto.access_log_path)));
    }
    Ok(())
}

const NOWHERE: &str = "/dev/null";

/// Requests to the admin interface are not logged: a log that goes nowhere is all there may be.
fn check_log(log: &AccessLog) -> Result<(), Refusal> {
    let AccessLog { name, filter: _, config_type } = log;
    let path = match config_type {
        Some(ConfigType::TypedConfig(config)) if is::<FileAccessLog>(config) => {
            unpack::<FileAccessLog>(config)?.path
        }
        _ => return Err(Refusal::unsupported(format!("access log {name}"))),
    };
    if path == NOWHERE {
        Ok(())
    } else {
        Err(Refusal::unsupported(format!("an access log of the admin interface in {path}")))
    }
}
