//! The table: who calls whom, who answers, and through which proxies.

use ostro_testkit::call::Speaks;

/// From where a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A pod with a sidecar.
    Caller,
    /// A pod without.
    Stranger,
    /// The host, by the published port.
    Host,
}

/// What is called.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// A URL's host and port, and what it speaks.
    Name(&'static str, u16, Speaks),
    /// The address of a pod of this workload.
    Pod(&'static str, u16, Speaks),
    /// The IPv6 address of a pod of this workload.
    Pod6(&'static str, u16, Speaks),
    /// The mesh's way in.
    Ingress,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// A pod of this workload answered.
    Pod(&'static str),
    /// The server outside answered.
    Outside,
    /// A proxy answered, with this status.
    Status(u16),
    /// The connection was refused, or closed without a word.
    Closed,
    /// There is no such name.
    NoName,
}

/// A proxy on the way: whose it is, and the cluster it chose.
pub type Hop = (&'static str, &'static str);

/// A line of the table.
pub struct Case {
    pub from: Who,
    pub to: To,
    pub reached: Reached,
    pub via: &'static [Hop],
}

const WEB_OUT: Hop = ("caller", "outbound|80||web.default.svc.cluster.local");
const WEB_IN: Hop = ("web", "inbound|8080||");
const PASS: Hop = ("caller", "PassthroughCluster");

/// Every line; each is tried.
pub const TABLE: &[Case] = {
    use Reached::{Closed, NoName, Outside, Pod, Status};
    use Speaks::{Hello, Http, Tcp, Udp};
    use Who::{Caller, Host, Stranger};
    const fn case(from: Who, to: To, reached: Reached, via: &'static [Hop]) -> Case {
        Case { from, to, reached, via }
    }
    &[
        // With a sidecar: services by address and by every name.
        case(Caller, To::Name("10.96.0.23", 80, Http), Pod("web"), &[WEB_OUT, WEB_IN]),
        case(Caller, To::Name("web", 80, Http), Pod("web"), &[WEB_OUT, WEB_IN]),
        case(Caller, To::Name("web.default", 80, Http), Pod("web"), &[WEB_OUT, WEB_IN]),
        case(Caller, To::Name("web.default.svc.cluster.local", 80, Http), Pod("web"), &[WEB_OUT, WEB_IN]),
        case(
            Caller,
            To::Name("web", 9000, Tcp),
            Pod("web"),
            &[("caller", "outbound|9000||web.default.svc.cluster.local"), ("web", "inbound|9000||")],
        ),
        case(
            Caller,
            To::Name("web", 9001, Hello),
            Pod("web"),
            &[("caller", "outbound|9001||web.default.svc.cluster.local"), ("web", "inbound|9001||")],
        ),
        case(
            Caller,
            To::Name("six", 80, Http),
            Pod("web"),
            &[("caller", "outbound|80||six.default.svc.cluster.local"), WEB_IN],
        ),
        case(Caller, To::Name("web", 5353, Udp), Pod("web"), &[]),
        case(Caller, To::Name("six", 5353, Udp), Pod("web"), &[]),
        case(
            Caller,
            To::Name("stranger", 80, Http),
            Pod("stranger"),
            &[("caller", "outbound|80||stranger.default.svc.cluster.local")],
        ),
        case(
            Caller,
            To::Name("stranger", 9001, Hello),
            Pod("stranger"),
            &[("caller", "outbound|9001||stranger.default.svc.cluster.local")],
        ),
        // Pods by name and by address.
        case(
            Caller,
            To::Name("db", 8080, Http),
            Pod("db"),
            &[("caller", "outbound|8080||db.default.svc.cluster.local"), ("db", "inbound|8080||")],
        ),
        case(
            Caller,
            To::Name("db", 9000, Tcp),
            Pod("db"),
            &[("caller", "outbound|9000||db.default.svc.cluster.local"), ("db", "inbound|9000||")],
        ),
        case(
            Caller,
            To::Name("db-0.db", 8080, Http),
            Pod("db"),
            &[("caller", "outbound|8080||db.default.svc.cluster.local"), ("db", "inbound|8080||")],
        ),
        case(
            Caller,
            To::Name("db-0.db.default.svc.cluster.local", 9000, Tcp),
            Pod("db"),
            &[("caller", "outbound|9000||db.default.svc.cluster.local"), ("db", "inbound|9000||")],
        ),
        case(Caller, To::Pod("web", 9000, Tcp), Pod("web"), &[PASS, ("web", "inbound|9000||")]),
        case(Caller, To::Pod6("web", 9000, Tcp), Pod("web"), &[PASS, ("web", "inbound|9000||")]),
        // Itself.
        case(
            Caller,
            To::Name("10.96.0.21", 80, Http),
            Pod("caller"),
            &[("caller", "outbound|80||caller.default.svc.cluster.local"), ("caller", "inbound|8080||")],
        ),
        case(
            Caller,
            To::Name("caller", 80, Http),
            Pod("caller"),
            &[("caller", "outbound|80||caller.default.svc.cluster.local"), ("caller", "inbound|8080||")],
        ),
        case(Caller, To::Name("localhost", 8080, Http), Pod("caller"), &[]),
        case(Caller, To::Pod("caller", 8080, Http), Pod("caller"), &[]),
        // Aliases and the outside.
        case(Caller, To::Name("alias", 80, Http), Pod("web"), &[WEB_OUT, WEB_IN]),
        case(Caller, To::Name("away", 80, Http), Outside, &[("caller", "outbound|80||www.outside.test")]),
        case(Caller, To::Name("192.0.2.80", 9001, Hello), Outside, &[PASS]),
        case(Caller, To::Name("raw.outside.test", 9001, Hello), Outside, &[PASS]),
        case(Caller, To::Name("192.0.2.80", 80, Http), Outside, &[PASS]),
        case(
            Caller,
            To::Name("www.outside.test", 80, Http),
            Outside,
            &[("caller", "outbound|80||www.outside.test")],
        ),
        case(
            Caller,
            To::Name("stated.outside.test", 9001, Hello),
            Outside,
            &[("caller", "outbound|9001||stated.outside.test")],
        ),
        case(
            Caller,
            To::Name("automatic.outside.test", 9001, Hello),
            Outside,
            &[("caller", "outbound|9001||automatic.outside.test")],
        ),
        // What bypasses the proxy.
        case(Caller, To::Name("192.0.2.99", 80, Http), Outside, &[]),
        case(Caller, To::Name("web", 9100, Http), Pod("web"), &[("web", "inbound|9100||")]),
        case(
            Caller,
            To::Name("web", 9200, Http),
            Pod("web"),
            &[("caller", "outbound|9200||web.default.svc.cluster.local")],
        ),
        // What is not there.
        case(
            Caller,
            To::Name("empty", 80, Http),
            Status(503),
            &[("caller", "outbound|80||empty.default.svc.cluster.local")],
        ),
        case(
            Caller,
            To::Name("empty", 9000, Tcp),
            Closed,
            &[("caller", "outbound|9000||empty.default.svc.cluster.local")],
        ),
        case(Caller, To::Name("nobody", 80, Http), NoName, &[]),
        // Without a sidecar.
        case(Stranger, To::Name("10.96.0.23", 80, Http), Pod("web"), &[WEB_IN]),
        case(Stranger, To::Name("web", 80, Http), Pod("web"), &[WEB_IN]),
        case(Stranger, To::Name("web", 9001, Hello), Pod("web"), &[("web", "inbound|9001||")]),
        case(Stranger, To::Name("web", 9200, Http), Pod("web"), &[]),
        case(Stranger, To::Name("web", 5353, Udp), Pod("web"), &[]),
        case(Stranger, To::Name("six", 80, Http), Pod("web"), &[WEB_IN]),
        case(Stranger, To::Name("db", 8080, Http), Pod("db"), &[("db", "inbound|8080||")]),
        case(Stranger, To::Name("db-0.db", 9000, Tcp), Pod("db"), &[("db", "inbound|9000||")]),
        case(Stranger, To::Name("stranger", 80, Http), Pod("stranger"), &[]),
        case(Stranger, To::Name("alias", 80, Http), Pod("web"), &[WEB_IN]),
        case(Stranger, To::Name("away", 80, Http), Outside, &[]),
        case(Stranger, To::Name("192.0.2.80", 9001, Hello), Outside, &[]),
        case(Stranger, To::Name("www.outside.test", 80, Http), Outside, &[]),
        case(Stranger, To::Name("empty", 9000, Tcp), Closed, &[]),
        case(Stranger, To::Name("nobody", 80, Http), NoName, &[]),
        // From the host.
        case(
            Host,
            To::Ingress,
            Pod("web"),
            &[("istio-ingressgateway", "outbound|80||web.default.svc.cluster.local"), WEB_IN],
        ),
    ]
};
