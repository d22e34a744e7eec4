//! The model as text for a terminal of a given size. Pure.

use std::time::Duration;

use super::model::{Edge, Model, PodRow, Standing, Tls};
use super::screen::{Cell, Line, Screen, Side, Style, table, wrapped};

/// Pods that progress names as waited for, at most.
const WAITING_SHOWN: usize = 8;

/// Problems that are shown, at most, and lines of each.
const PROBLEMS_SHOWN: usize = 3;
const PROBLEM_LINES: usize = 4;

/// Which part is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// Pods and edges, one above the other.
    #[default]
    Both,
    /// Pods alone.
    Pods,
    /// Edges alone.
    Edges,
    /// The keys.
    Help,
}

/// What is shown besides the model.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Name of the mesh.
    pub mesh: String,
    /// Lines under the title: addresses, things to try.
    pub notes: Vec<String>,
    /// The latest log lines.
    pub log: Vec<String>,
    /// The part that is shown.
    pub tab: Tab,
    /// Lines of it that are scrolled over.
    pub offset: usize,
}

/// Progress while the mesh comes up: what it waits for. `elapsed` since the start.
pub fn progress(model: &Model, frame: &Frame, elapsed: Duration, width: usize, height: usize) -> Screen {
    let (ready, all) = ready_of(model);
    let mut lines = vec![
        Line::new(Style::Bold, &format!("ostro {}", frame.mesh))
            .and(Style::Plain, &format!(" is coming up: {ready} of {all} pods ready, "))
            .and(Style::Dim, &format!("{:.1} s", elapsed.as_secs_f64())),
    ];
    if model.pods().is_empty() {
        lines.push(Line::new(Style::Dim, "  reading files, starting the control plane"));
    }
    let waiting: Vec<&PodRow> = model.pods().iter().filter(|pod| pod.standing == Standing::Waiting).collect();
    for pod in waiting.iter().take(WAITING_SHOWN) {
        let name = format!("  {}/{}: ", pod.namespace, pod.name);
        lines.push(Line::new(Style::Plain, &name).and(Style::Warn, &pod.state));
    }
    if let Some(more) = waiting.len().checked_sub(WAITING_SHOWN).filter(|more| *more > 0) {
        lines.push(Line::new(Style::Dim, &format!("  and {more} more")));
    }
    lines.extend(problems(model, width));
    lines.extend(frame.log.iter().map(|line| Line::new(Style::Dim, &format!("  {line}"))));
    Screen::cut(lines, width, height)
}

/// The live view. `now` on the clock of the model's samples.
pub fn live(model: &Model, frame: &Frame, now: Duration, width: usize, height: usize) -> Screen {
    let mut lines = head(model, frame, width);
    let foot = foot(model, frame, width);
    let room = height.saturating_sub(lines.len() + foot.len());
    let body = match frame.tab {
        Tab::Both => both(model, now, width, room),
        Tab::Pods => window(pods(model, width), frame.offset, room),
        Tab::Edges => window(edges(model, now, width), frame.offset, room),
        Tab::Help => help(),
    };
    lines.extend(body.into_iter().take(room));
    lines.resize(height.saturating_sub(foot.len()).max(lines.len()), Line::default());
    lines.extend(foot);
    Screen::cut(lines, width, height)
}

fn ready_of(model: &Model) -> (usize, usize) {
    let counted = model.pods().iter().filter(|pod| pod.standing != Standing::Ending);
    (counted.clone().filter(|pod| pod.standing != Standing::Waiting).count(), counted.count())
}

fn head(model: &Model, frame: &Frame, width: usize) -> Vec<Line> {
    let (ready, all) = ready_of(model);
    let style = if model.is_ready() { Style::Good } else { Style::Warn };
    let title = Line::new(Style::Bold, &format!("ostro {}", frame.mesh))
        .and(Style::Plain, "  ")
        .and(style, &format!("{ready} of {all} pods ready"));
    let keys = "p pods  e edges  ? help  q quit";
    let gap = width.saturating_sub(title.width() + keys.len());
    let title = match gap {
        0 => title,
        gap => title.and(Style::Plain, &" ".repeat(gap)).and(Style::Dim, keys),
    };
    let notes = frame.notes.iter().map(|note| Line::new(Style::Plain, note));
    std::iter::once(title).chain(notes).chain([Line::default()]).collect()
}

fn foot(model: &Model, frame: &Frame, width: usize) -> Vec<Line> {
    let log = frame.log.iter().map(|line| Line::new(Style::Dim, line));
    problems(model, width).into_iter().chain(log).collect()
}

fn problems(model: &Model, width: usize) -> Vec<Line> {
    let all = model.problems();
    let mut lines: Vec<Line> = all
        .iter()
        .take(PROBLEMS_SHOWN)
        .flat_map(|problem| wrapped(Style::Bad, problem, width, PROBLEM_LINES))
        .collect();
    if let Some(more) = all.len().checked_sub(PROBLEMS_SHOWN).filter(|more| *more > 0) {
        lines.push(Line::new(Style::Bad, &format!("and {more} more problems")));
    }
    lines
}

/// The lines from `offset` on that fit into `room`, never scrolled past the end; the head of the table stays.
fn window(table: Vec<Line>, offset: usize, room: usize) -> Vec<Line> {
    let rows = table.len().saturating_sub(1);
    let shown = room.saturating_sub(1);
    let skip = offset.min(rows.saturating_sub(shown));
    let mut lines = table.into_iter();
    lines.next().into_iter().chain(lines.skip(skip)).take(room).collect()
}

/// Both tables; each gets what it needs, and half of the room if both need more.
fn both(model: &Model, now: Duration, width: usize, room: usize) -> Vec<Line> {
    let (pods, edges) = (pods(model, width), edges(model, now, width));
    let half = room / 2;
    let for_pods = pods.len().min(half.max(room.saturating_sub(edges.len() + 1)));
    let mut lines = shortened(pods, for_pods, "p shows all");
    lines.push(Line::default());
    let left = room.saturating_sub(lines.len());
    lines.extend(shortened(edges, left, "e shows all"));
    lines
}

/// A table cut to `room` lines, the last of which then tells so.
fn shortened(mut table: Vec<Line>, room: usize, how: &str) -> Vec<Line> {
    if table.len() > room {
        let hidden = table.len() - room.saturating_sub(1);
        table.truncate(room.saturating_sub(1));
        table.push(Line::new(Style::Dim, &format!("and {hidden} more ({how})")));
    }
    table
}

fn pods(model: &Model, width: usize) -> Vec<Line> {
    let head = [
        ("POD", Side::Left),
        ("NAMESPACE", Side::Left),
        ("PROXY", Side::Left),
        ("ADDRESS", Side::Left),
        ("RESTARTS", Side::Right),
        ("STATE", Side::Left),
    ];
    let row = |pod: &PodRow| -> Vec<Cell> {
        let state = match pod.standing {
            Standing::Ready => Style::Good,
            Standing::Waiting => Style::Warn,
            Standing::Done | Standing::Ending => Style::Dim,
        };
        let restarts = if pod.restarts > 0 { Style::Warn } else { Style::Dim };
        vec![
            (Style::Plain, pod.name.clone()),
            (Style::Plain, pod.namespace.clone()),
            (Style::Plain, pod.proxy.to_owned()),
            (Style::Plain, pod.address.clone()),
            (restarts, pod.restarts.to_string()),
            (state, pod.state.clone()),
        ]
    };
    let rows: Vec<Vec<Cell>> = model.pods().iter().map(row).collect();
    table(&head, &rows, width)
}

fn edges(model: &Model, now: Duration, width: usize) -> Vec<Line> {
    let head = [
        ("FROM", Side::Left),
        ("TO", Side::Left),
        ("REQ/S", Side::Right),
        ("SUCCESS", Side::Right),
        ("P50", Side::Right),
        ("P99", Side::Right),
        ("MTLS", Side::Left),
    ];
    let rows: Vec<Vec<Cell>> = model.edges(now).iter().map(edge_row).collect();
    let mut lines = table(&head, &rows, width);
    if rows.is_empty() {
        lines.push(Line::new(Style::Dim, "no proxy has sent anything yet"));
    }
    match model.not_kept() {
        0 => {}
        pods => {
            lines.push(Line::new(
                Style::Warn,
                &format!("too many edges: those of {pods} pods are incomplete"),
            ));
        }
    }
    lines
}

fn edge_row(edge: &Edge) -> Vec<Cell> {
    let quiet = if edge.rate == 0.0 { Style::Dim } else { Style::Plain };
    let time = |time: Option<f64>| (quiet, time.map_or("-".to_owned(), milliseconds));
    let unit = if edge.by_connection { " conn" } else { "" };
    vec![
        (quiet, format!("{}/{}", edge.source.0, edge.source.1)),
        (quiet, destination(edge)),
        (quiet, format!("{:.1}{unit}", edge.rate)),
        edge.success.map_or((Style::Dim, "-".to_owned()), |share| (success_style(share), percent(share))),
        time(edge.p50),
        time(edge.p99),
        match edge.tls {
            Tls::Unknown => (Style::Dim, "-".to_owned()),
            Tls::No => (quiet, "no".to_owned()),
            Tls::Some => (Style::Warn, "some".to_owned()),
            Tls::Yes => (Style::Good, "yes".to_owned()),
        },
    ]
}

/// A service as short as it is clear: `reviews.default:9080`.
fn destination(edge: &Edge) -> String {
    let host = &edge.destination.host;
    let short = host.split_once(".svc.").map_or(host.as_str(), |(short, _)| short);
    match edge.destination.port {
        0 => short.to_owned(),
        port => format!("{short}:{port}"),
    }
}

fn success_style(share: f64) -> Style {
    match share {
        share if share >= 0.99 => Style::Good,
        share if share >= 0.95 => Style::Warn,
        _ => Style::Bad,
    }
}

/// Rounded down: 100 % means that not one failed.
fn percent(share: f64) -> String {
    format!("{:.1} %", (share * 1_000.0).floor() / 10.0)
}

fn milliseconds(time: f64) -> String {
    match time {
        time if time >= 10_000.0 => format!("{:.0} s", time / 1_000.0),
        time if time >= 100.0 => format!("{time:.0} ms"),
        time => format!("{time:.1} ms"),
    }
}

fn help() -> Vec<Line> {
    [
        "p        pods, and back to both",
        "e        edges, and back to both",
        "up/down  scroll (also k and j)",
        "?        this, and back",
        "q        end the mesh, as Ctrl-C does",
        "",
        "An edge is a workload that calls a service, as its own proxy counts it over the last 10 seconds:",
        "requests a second, the share not answered with 500 to 599, the time half of them took at most,",
        "the time 99 of 100 took at most, and whether its connections are mutual TLS.",
    ]
    .into_iter()
    .map(|line| Line::new(Style::Plain, line))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::envoy_stats::{Counters, Destination};
    use super::super::model::Sample;
    use super::*;

    fn pod(name: &str, state: &str) -> PodRow {
        PodRow {
            namespace: "default".into(),
            name: name.into(),
            workload: name.into(),
            address: "10.244.0.2".into(),
            proxy: "sidecar",
            standing: if state == "ready" { Standing::Ready } else { Standing::Waiting },
            state: state.into(),
            restarts: 0,
        }
    }

    fn model() -> Model {
        let mut model = Model::default();
        let pods = vec![pod("ratings-v1-0", "container ratings: TCP 9080 refused"), pod("web-0", "ready")];
        model.set_pods(pods, Vec::new(), true);
        for second in 0..3 {
            let counters = Counters {
                completed: second * 20,
                failed: second,
                connections: 1,
                handshakes: 0,
                times: vec![(5.0, second * 10), (10.0, second * 20)],
            };
            let to = Destination { host: "reviews.default.svc.cluster.local".into(), port: 9080 };
            let quiet = Destination { host: "(outside)".into(), port: 0 };
            let counters =
                BTreeMap::from([(to, counters), (quiet, Counters { connections: 3, ..Counters::default() })]);
            let sample = Sample { pod: ("default".into(), "web-0".into()), workload: "web".into(), counters };
            model.sample(Duration::from_secs(second), sample);
        }
        model
    }

    fn frame() -> Frame {
        Frame { mesh: "default".into(), notes: vec!["http://127.0.0.1:8080".into()], ..Frame::default() }
    }

    #[test]
    fn both_tables_under_a_title() {
        let screen = live(&model(), &frame(), Duration::from_secs(2), 100, 14);
        let expected = "\
ostro default  1 of 2 pods ready                                     p pods  e edges  ? help  q quit
http://127.0.0.1:8080

POD           NAMESPACE  PROXY    ADDRESS     RESTARTS  STATE
ratings-v1-0  default    sidecar  10.244.0.2         0  container ratings: TCP 9080 refused
web-0         default    sidecar  10.244.0.2         0  ready

FROM         TO                       REQ/S  SUCCESS     P50     P99  MTLS
default/web  (outside)             0.0 conn        -       -       -  no
default/web  reviews.default:9080      20.0   95.0 %  5.0 ms  9.9 ms  no




";
        assert_eq!(screen.plain(), expected);
    }

    #[test]
    fn a_small_terminal_shows_what_fits_and_tells_of_the_rest() {
        let small = live(&model(), &frame(), Duration::from_secs(2), 60, 8);
        assert_eq!(small.lines.len(), 8);
        assert!(small.plain().contains("more (p shows all)"), "{}", small.plain());
        assert!(small.plain().contains("more (e shows all)"), "{}", small.plain());
        for (width, height) in [(0, 0), (1, 1), (3, 2), (200, 3), (20, 50)] {
            for tab in [Tab::Both, Tab::Pods, Tab::Edges, Tab::Help] {
                let screen = live(&model(), &Frame { tab, ..frame() }, Duration::ZERO, width, height);
                assert!(screen.lines.len() <= height);
                assert!(screen.lines.iter().all(|line| line.width() <= width));
            }
        }
    }

    #[test]
    fn scrolling_keeps_the_head_and_stops_at_the_end() {
        let mut model = Model::default();
        model.set_pods((0..20).map(|n| pod(&format!("web-{n:02}"), "ready")).collect(), Vec::new(), true);
        let frame = Frame { tab: Tab::Pods, offset: 1_000, ..frame() };
        let text = live(&model, &frame, Duration::ZERO, 80, 7).plain();
        assert!(text.contains("POD ") && text.contains("web-19") && text.contains("web-17"), "{text}");
        assert!(!text.contains("web-16"), "{text}");
    }

    #[test]
    fn progress_names_what_is_waited_for() {
        let expected = "\
ostro default is coming up: 1 of 2 pods ready, 1.5 s
  default/ratings-v1-0: container ratings: TCP 9080 refused
";
        let screen = progress(&model(), &frame(), Duration::from_millis(1_500), 80, 24);
        assert_eq!(screen.plain(), expected);
        let empty = progress(&Model::default(), &frame(), Duration::ZERO, 80, 24).plain();
        assert!(empty.contains("starting the control plane"), "{empty}");
    }

    #[test]
    fn numbers_are_short_and_do_not_flatter() {
        assert_eq!((percent(0.9999), percent(1.0)), ("99.9 %".to_owned(), "100.0 %".to_owned()));
        let times = [0.42, 99.5, 250.0, 42_000.0].map(milliseconds);
        assert_eq!(times, ["0.4 ms", "99.5 ms", "250 ms", "42 s"].map(str::to_owned));
    }
}
