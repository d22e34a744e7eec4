//! Which program a proxy is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A program that is configured by Envoy's xDS and started with Envoy's bootstrap and flags. The default is
/// what the proxies of a mesh are if nobody says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataPlane {
    /// Ostro's own: `ostro proxy`.
    #[default]
    Ostro,
    /// Stock Envoy.
    Envoy,
}

impl DataPlane {
    /// All of them.
    pub const ALL: [DataPlane; 2] = [DataPlane::Ostro, DataPlane::Envoy];

    /// As it is written in options and annotations.
    pub fn as_str(self) -> &'static str {
        match self {
            DataPlane::Ostro => "ostro",
            DataPlane::Envoy => "envoy",
        }
    }
}

impl fmt::Display for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No such data plane. The user's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no proxy `{0}`; allowed: ostro, envoy")]
pub struct NoSuchDataPlane(String);

impl FromStr for DataPlane {
    type Err = NoSuchDataPlane;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |plane: &DataPlane| plane.as_str() == text;
        DataPlane::ALL.into_iter().find(named).ok_or_else(|| NoSuchDataPlane(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for plane in DataPlane::ALL {
            assert_eq!(plane.as_str().parse(), Ok(plane));
        }
        assert_eq!(
            "nginx".parse::<DataPlane>().unwrap_err().to_string(),
            "no proxy `nginx`; allowed: ostro, envoy"
        );
    }
}
