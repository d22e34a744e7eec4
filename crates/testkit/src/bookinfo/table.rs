//! Every file of `networking/`, and what the answers must be while it is there.

use std::time::Duration;

/// How many answers should be of a kind.
#[derive(Debug, Clone, Copy)]
pub enum Share {
    /// Every one.
    All,
    /// At least one.
    Some,
    /// This share, within three standard deviations.
    About(f64),
}

/// A kind of answer that is expected; kinds that are not are failures.
#[derive(Debug, Clone, Copy)]
pub struct Expect {
    /// `v1`, `v2 black`, `v3 red`, `v2 no ratings`, or a status.
    pub class: &'static str,
    /// How many.
    pub share: Share,
}

/// Some users' requests.
#[derive(Debug)]
pub struct Who {
    /// For messages.
    pub name: &'static str,
    /// Who is logged in.
    pub user: Option<&'static str>,
    /// What is asked.
    pub path: &'static str,
    /// Requests a second.
    pub rate: u32,
    /// Connections.
    pub connections: usize,
    /// Answers to judge while the file is there.
    pub answers: u64,
    /// Without the file.
    pub before: &'static [Expect],
    /// With it.
    pub during: &'static [Expect],
}

/// One file.
#[derive(Debug)]
pub struct Row {
    /// Its path in the folder.
    pub file: &'static str,
    /// Files that it builds on, besides [`BASE`].
    pub prepared: &'static [&'static str],
    /// Whose requests are watched.
    pub who: &'static [Who],
    /// The longest a request takes that the file asks to be slow: one that is under way when the file goes
    /// may still end as the file said.
    pub longest_answer: Duration,
    /// What else may be seen while it comes or goes, because it routes two services: their callers are two proxies,
    /// and no mesh changes two proxies at the same instant.
    pub between: &'static [&'static str],
}

/// A file that makes the mesh reachable, and what is answered then.
#[derive(Debug)]
pub struct WayIn {
    /// Its path in the folder.
    pub file: &'static str,
    /// Whose requests are watched; there is no answer without the file.
    pub who: Who,
}

/// What runs, all of it at once.
pub const MANIFESTS: [&str; 4] = [
    "platform/kube/bookinfo.yaml",
    "platform/kube/bookinfo-versions.yaml",
    "helloworld/helloworld.yaml",
    "httpbin/httpbin.yaml",
];

/// In place for every file, but for the one that is the file itself.
pub const BASE: [&str; 1] = ["networking/bookinfo-gateway.yaml"];

/// What cannot be run yet.
pub const NEEDS_LATER: [(&str, &str); 1] = [("networking/destination-rule-all-mtls.yaml", "mTLS")];
/// What our own proxy refuses besides, by name.
pub const NEEDS_LATER_OF_OURS: [(&str, &str); 1] =
    [("networking/egress-rule-google-apis.yaml", "TLS to the outside")];

const SUBSETS: &[&str] = &["networking/destination-rule-all.yaml"];
const REVIEWS: &str = "/api/v1/products/0/reviews";
const DETAILS: &str = "/api/v1/products/0";

const fn all(class: &'static str) -> Expect {
    Expect { class, share: Share::All }
}

const fn some(class: &'static str) -> Expect {
    Expect { class, share: Share::Some }
}

const fn about(class: &'static str, share: f64) -> Expect {
    Expect { class, share: Share::About(share) }
}

/// Without routes every version answers.
const ANY: &[Expect] = &[some("v1"), some("v2 black"), some("v3 red")];
const THIRD: f64 = 1.0 / 3.0;
const OK: &[Expect] = &[all("200")];

const fn everybody(answers: u64, before: &'static [Expect], during: &'static [Expect]) -> Who {
    Who { name: "everybody", user: None, path: REVIEWS, rate: 200, connections: 16, answers, before, during }
}

const fn jason(before: &'static [Expect], during: &'static [Expect]) -> Who {
    Who {
        name: "jason",
        user: Some("jason"),
        path: REVIEWS,
        rate: 50,
        connections: 16,
        answers: 200,
        before,
        during,
    }
}

const fn details(during: &'static [Expect]) -> Who {
    Who { path: DETAILS, ..everybody(200, OK, during) }
}

const fn row(file: &'static str, prepared: &'static [&'static str], who: &'static [Who]) -> Row {
    Row { file, prepared, who, longest_answer: Duration::ZERO, between: &[] }
}

/// A file that sends ratings to a database that is not there, and all to a version of reviews that asks ratings.
const fn without_ratings(file: &'static str) -> Row {
    const WHO: &[Who] = &[everybody(200, ANY, &[all("v3 no ratings")])];
    // Reviews of before, ratings of after: of the versions that ask ratings only v2 is not of both.
    Row { between: &["v2 no ratings"], ..row(file, SUBSETS, WHO) }
}

/// Every way in.
pub const WAYS_IN: &[WayIn] = &[
    WayIn { file: "networking/bookinfo-gateway.yaml", who: everybody(200, &[], ANY) },
    WayIn {
        file: "helloworld/helloworld-gateway.yaml",
        who: Who { path: "/hello", ..everybody(200, &[], OK) },
    },
    WayIn {
        file: "httpbin/httpbin-gateway.yaml",
        who: Who { path: "/status/418", ..everybody(200, &[], &[all("418")]) },
    },
];

/// The table.
pub const ROWS: &[Row] = &[
    row("networking/destination-rule-all.yaml", &[], &[everybody(200, ANY, ANY)]),
    row(
        "networking/destination-rule-reviews.yaml",
        &[],
        // It asks for RANDOM, so the thirds hold as a draw by chance does.
        &[everybody(2_000, ANY, &[about("v1", THIRD), about("v2 black", THIRD), about("v3 red", THIRD)])],
    ),
    row("networking/virtual-service-all-v1.yaml", SUBSETS, &[everybody(200, ANY, &[all("v1")])]),
    row("networking/virtual-service-reviews-v3.yaml", SUBSETS, &[everybody(200, ANY, &[all("v3 red")])]),
    row(
        "networking/virtual-service-reviews-50-v3.yaml",
        SUBSETS,
        &[everybody(2_000, ANY, &[about("v1", 0.5), about("v3 red", 0.5)])],
    ),
    row(
        "networking/virtual-service-reviews-80-20.yaml",
        SUBSETS,
        &[everybody(2_000, ANY, &[about("v1", 0.8), about("v2 black", 0.2)])],
    ),
    row(
        "networking/virtual-service-reviews-90-10.yaml",
        SUBSETS,
        &[everybody(2_000, ANY, &[about("v1", 0.9), about("v2 black", 0.1)])],
    ),
    row(
        "networking/virtual-service-reviews-v2-v3.yaml",
        SUBSETS,
        &[everybody(2_000, ANY, &[about("v2 black", 0.5), about("v3 red", 0.5)])],
    ),
    row(
        "networking/virtual-service-reviews-test-v2.yaml",
        SUBSETS,
        &[everybody(200, ANY, &[all("v1")]), jason(ANY, &[all("v2 black")])],
    ),
    row(
        "networking/virtual-service-reviews-jason-v2-v3.yaml",
        SUBSETS,
        &[everybody(200, ANY, &[all("v3 red")]), jason(ANY, &[all("v2 black")])],
    ),
    row(
        "networking/virtual-service-ratings-test-abort.yaml",
        &["networking/destination-rule-all.yaml", "networking/virtual-service-reviews-test-v2.yaml"],
        &[everybody(200, &[all("v1")], &[all("v1")]), jason(&[all("v2 black")], &[all("v2 no ratings")])],
    ),
    Row {
        file: "networking/virtual-service-ratings-test-delay.yaml",
        prepared: &[
            "networking/destination-rule-all.yaml",
            "networking/virtual-service-reviews-test-v2.yaml",
        ],
        who: &[
            everybody(200, &[all("v1")], &[all("v1")]),
            // Seven seconds are more than productpage's patience, twice three seconds: it gives up.
            Who { rate: 10, connections: 80, answers: 40, ..jason(&[all("v2 black")], &[all("500")]) },
        ],
        longest_answer: Duration::from_secs(7),
        between: &[],
    },
    row("networking/fault-injection-details-v1.yaml", &[], &[details(&[all("555")])]),
    // It routes to a version that Bookinfo's main manifest does not run.
    row("networking/virtual-service-details-v2.yaml", SUBSETS, &[details(&[all("503")])]),
    without_ratings("networking/virtual-service-ratings-db.yaml"),
    without_ratings("networking/virtual-service-ratings-mysql.yaml"),
    without_ratings("networking/virtual-service-ratings-mysql-vm.yaml"),
    // These concern what is outside; Bookinfo goes on.
    row("networking/egress-rule-google-apis.yaml", &[], &[everybody(200, ANY, ANY)]),
    row("networking/certmanager-gateway.yaml", &[], &[everybody(200, ANY, ANY)]),
];
