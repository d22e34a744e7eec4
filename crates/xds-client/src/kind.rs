//! Kinds of resources, as data: whoever needs another kind adds a [`Spec`], not a branch.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

/// What is to be known of a kind of resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its type URL.
    pub url: &'static str,
    /// As statistics and logs call it.
    pub short: &'static str,
    /// As refusals call it: `Error adding/updating cluster(s) ...`.
    pub plural: &'static str,
    /// How several refusals are put together.
    pub wording: Wording,
    /// Who is subscribed to how.
    pub scope: Scope,
    /// When it comes into force.
    pub role: Role,
    /// What it means that the server takes one away.
    pub absence: Absence,
    /// Is the message's first field its name? All of Envoy's are like that; without, names come from deltas alone.
    pub names_itself: bool,
    /// Requests of kinds with lower ranks go first.
    pub rank: u8,
}

/// Is it subscribed to as a whole, or by name?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All there are; in the state of the world, one that is missing is gone.
    All,
    /// Those that something needs.
    Named,
}

/// When a resource comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// When all that it needs has come; at start before any of [`Role::Second`] is asked for.
    First,
    /// When all that it needs has come; at start not before all of [`Role::First`].
    Second,
    /// At once: it is what others need.
    Leaf,
}

/// What it means that the server takes a resource away that is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It is no longer in force.
    Removes,
    /// The last one stays in force; what waits for one goes on without.
    KeepsLast,
    /// Nothing.
    PassedOver,
}

/// How Envoy puts the refusals of one response together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wording {
    /// `a: why, b: why`
    Commas,
    /// A line each.
    Lines,
}

/// A kind of resource. Its constants can be matched on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind(&'static Spec);

const fn spec(url: &'static str, short: &'static str, plural: &'static str, rank: u8) -> Spec {
    Spec {
        url,
        short,
        plural,
        wording: Wording::Commas,
        scope: Scope::Named,
        role: Role::Leaf,
        absence: Absence::KeepsLast,
        names_itself: true,
        rank,
    }
}

const CLUSTER: &Spec = &Spec {
    scope: Scope::All,
    role: Role::First,
    absence: Absence::Removes,
    ..spec("type.googleapis.com/envoy.config.cluster.v3.Cluster", "cds", "cluster(s)", 0)
};
const ENDPOINT: &Spec = &spec(
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "eds",
    "cluster load assignment(s)",
    1,
);
const LISTENER: &Spec = &Spec {
    scope: Scope::All,
    role: Role::Second,
    absence: Absence::Removes,
    wording: Wording::Lines,
    ..spec("type.googleapis.com/envoy.config.listener.v3.Listener", "lds", "listener(s)", 2)
};
// Envoy passes removals of routes over, lest requests of a listener that stays lose them.
const ROUTE: &Spec = &Spec {
    absence: Absence::PassedOver,
    ..spec("type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "rds", "route configuration(s)", 3)
};
const SECRET: &Spec =
    &spec("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "sds", "secret(s)", 4);
const EXTENSION: &Spec =
    &spec("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", "ecds", "extension(s)", 5);

impl Kind {
    /// Clusters (CDS).
    pub const CLUSTER: Kind = Kind(CLUSTER);
    /// Endpoints of clusters (EDS).
    pub const ENDPOINT: Kind = Kind(ENDPOINT);
    /// Listeners (LDS).
    pub const LISTENER: Kind = Kind(LISTENER);
    /// Route configurations (RDS).
    pub const ROUTE: Kind = Kind(ROUTE);
    /// Certificates and keys (SDS).
    pub const SECRET: Kind = Kind(SECRET);
    /// Extension configurations (ECDS).
    pub const EXTENSION: Kind = Kind(EXTENSION);

    /// Another kind.
    pub const fn new(spec: &'static Spec) -> Kind {
        Kind(spec)
    }

    /// Its type URL.
    pub const fn url(self) -> &'static str {
        self.0.url
    }

    /// Its short name.
    pub const fn short(self) -> &'static str {
        self.0.short
    }

    /// What is known of it.
    pub const fn spec(self) -> &'static Spec {
        self.0
    }

    /// What a NACK says, in Envoy's words where Envoy has any: each refused resource, and why.
    pub fn refusal<'a>(self, refused: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut text = format!("Error adding/updating {} ", self.0.plural);
        for (i, (name, reason)) in refused.into_iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = match self.0.wording {
                Wording::Commas => write!(text, "{}{name}: {reason}", if i > 0 { ", " } else { "" }),
                Wording::Lines => writeln!(text, "{name}: {reason}"),
            };
        }
        text
    }
}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.url.hash(state);
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Kind) -> Ordering {
        (self.0.rank, self.0.url).cmp(&(other.0.rank, other.0.url))
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Kind) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_worded_as_envoy_words_them() {
        let refused = [("a", "bad"), ("b", "worse")];
        assert_eq!(Kind::CLUSTER.refusal(refused), "Error adding/updating cluster(s) a: bad, b: worse");
        assert_eq!(Kind::LISTENER.refusal(refused), "Error adding/updating listener(s) a: bad\nb: worse\n");
    }

    #[test]
    fn kinds_are_ordered_as_they_are_asked_for() {
        let mut kinds = [Kind::ROUTE, Kind::LISTENER, Kind::SECRET, Kind::ENDPOINT, Kind::CLUSTER];
        kinds.sort();
        assert_eq!(format!("{kinds:?}"), "[cds, eds, lds, rds, sds]");
    }
}
