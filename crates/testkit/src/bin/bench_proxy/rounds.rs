//! What is measured of proxies that serve, round by round, one after the other.

use std::path::Path;
use std::time::Duration;

use ostro_testkit::pinned::Processors;

use crate::load::{self, Times};
use crate::options::{Options, Part};
use crate::report::Report;
use crate::site::{Site, Subject, Traffic};

/// How long memory is given to be given back after the loads.
const AFTER: Duration = Duration::from_secs(5);

const ALL: [Subject; 3] = [Subject::Direct, Subject::Ours, Subject::Envoy];

/// Numbers of connections: with `--quick`, and for a pair.
const CONNECTIONS: [usize; 3] = [1, 16, 64];
const CONNECTIONS_QUICK: [usize; 1] = [16];

pub async fn run(options: &Options, processors: Processors, dir: &Path, report: &mut Report) {
    let site = Site::start(&options.proxy, dir, processors).await;
    for subject in Subject::PROXIES {
        report.add("rss idle", subject, "bytes", site.idle(subject) as f64);
    }
    for number in 0..options.rounds {
        println!("round {}", number + 1);
        if options.wants(Part::Load) {
            loads(options, &site, report).await;
        }
        if options.wants(Part::Latency) {
            times(options, &site, report).await;
        }
        if options.wants(Part::Connections) {
            connections(options, &site, report).await;
        }
        site.empty_logs();
    }
    tokio::time::sleep(AFTER).await;
    for subject in Subject::PROXIES {
        report.add("rss after", subject, "bytes", site.rss(subject) as f64);
    }
}

async fn loads(options: &Options, site: &Site, report: &mut Report) {
    for is_pair in [false, true] {
        for traffic in Traffic::ALL {
            let several = !is_pair && traffic == Traffic::Http1 || !options.quick;
            let numbers = if several { &CONNECTIONS[..] } else { &CONNECTIONS_QUICK[..] };
            if is_pair && options.quick && traffic != Traffic::Http1 {
                continue;
            }
            for number in numbers {
                for subject in ALL.into_iter().filter(|subject| !is_pair || *subject != Subject::Direct) {
                    one(options, site, report, (subject, traffic, is_pair, *number)).await;
                }
                site.empty_logs();
            }
        }
    }
}

async fn one(
    options: &Options,
    site: &Site,
    report: &mut Report,
    (subject, traffic, is_pair, number): (Subject, Traffic, bool, usize),
) {
    let (target, proxies) = site.way(subject, traffic, is_pair);
    let outcome = load::closed(&target, number, options.load, &proxies).await;
    let case = format!("{} {} c{number}", if is_pair { "pair" } else { "hop" }, traffic.name());
    report.add(&format!("{case} rate"), subject, "requests/s", outcome.rate);
    if subject != Subject::Direct {
        report.add(&format!("{case} cpu"), subject, "s per million", outcome.cpu);
    }
    if !is_pair && subject != Subject::Direct && (traffic, number) == (Traffic::Http1, 64) {
        report.add("rss loaded", subject, "bytes", outcome.rss as f64);
    }
}

async fn times(options: &Options, site: &Site, report: &mut Report) {
    for (is_pair, traffic) in [(false, Traffic::Http1), (false, Traffic::Http2), (true, Traffic::Http1)] {
        if options.quick && (is_pair || traffic != Traffic::Http1) {
            continue;
        }
        let mut direct = Times::default();
        for subject in ALL {
            let (target, _) = site.way(subject, traffic, is_pair);
            let times = load::paced(&target, options.load * 2).await;
            let case = format!("{} {} paced", if is_pair { "pair" } else { "hop" }, traffic.name());
            if subject == Subject::Direct {
                direct = times;
                report.add(&format!("{case} p50"), subject, "us", times.p50);
                report.add(&format!("{case} p99"), subject, "us", times.p99);
            } else {
                report.add(&format!("{case} added p50"), subject, "us", times.p50 - direct.p50);
                report.add(&format!("{case} added p99"), subject, "us", times.p99 - direct.p99);
            }
        }
    }
}

async fn connections(options: &Options, site: &Site, report: &mut Report) {
    for (name, traffic) in [("connections", Traffic::Http1), ("tcp connections", Traffic::Tcp)] {
        if options.quick && traffic == Traffic::Tcp {
            continue;
        }
        for subject in ALL {
            let (target, proxies) = site.way(subject, traffic, false);
            let outcome = load::connections(&target, options.load, &proxies).await;
            report.add(name, subject, "connections/s", outcome.rate);
        }
    }
}
