//! What people, editors and attackers put into files: each row is dropped into a file that holds a good object,
//! beside a good neighbour, under a running follower: in place of the object where the text is not even YAML,
//! after it where it is. Each must be told where it is wrong, take nothing away, and leave the neighbour free to
//! change.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

use ostro_api::{Complaint, Severity};
use ostro_sources::{Follower, Options, Update};
use std::fs;
use std::path::Path;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

/// A malformed text, the line its error is on (0: the file as a whole), and what the error says.
struct Row {
    name: &'static str,
    text: Vec<u8>,
    line: u32,
    says: &'static str,
    /// Where it goes: in place of the good object, or after it.
    replaces: bool,
}

fn row(name: &'static str, text: impl Into<Vec<u8>>, line: u32, says: &'static str) -> Row {
    Row { name, text: text.into(), line, says, replaces: false }
}

fn account(name: &str, version: u32) -> String {
    format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n  labels: {{version: \"{version}\"}}\n"
    )
}

/// A document of a kind: its spec starts on line 5.
fn document(api_version: &str, kind: &str, spec: &str) -> String {
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: broken}}\nspec:\n{spec}")
}

fn istio(kind: &str, spec: &str) -> String {
    document("networking.istio.io/v1", kind, spec)
}

fn http(route: &str) -> String {
    istio("VirtualService", &format!("  hosts: [reviews]\n  http:\n  - {route}\n"))
}

/// Texts that are not even YAML, or not YAML that configuration may contain.
fn texts() -> Vec<Row> {
    let bomb: String =
        (1..10).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(","))).collect();
    let utf16: Vec<u8> = account("victim", 0).encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        row(
            "cut short in a flow mapping",
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: vic",
            4,
            "",
        ),
        row("cut short in a quoted string", "apiVersion: v1\nkind: \"Service", 2, ""),
        row(
            "tab as indentation",
            "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n\tname: victim\n",
            4,
            "tab",
        ),
        row("alias bomb", format!("a0: &a0 [x,x,x,x,x,x,x,x,x]\n{bomb}"), 7, "aliases"),
        row("alias that contains itself", "apiVersion: v1\nkind: List\nitems: &a [*a]\n", 3, ""),
        row("alias of nothing", "apiVersion: v1\nkind: *nothing\n", 2, ""),
        row("bytes that are not UTF-8", b"apiVersion: v1\nkind: \xff\xfe\n".as_slice(), 2, "UTF-8"),
        row("UTF-16", [&[0xff, 0xfe], &utf16[..]].concat(), 1, "UTF-8"),
        row("NUL bytes", b"apiVersion: v1\nkind: Serv\0ice\n".as_slice(), 2, ""),
        row("unknown escape", "apiVersion: v1\nkind: \"\\q\"\n", 2, ""),
        row(
            "duplicate key",
            "apiVersion: v1\nkind: ServiceAccount\nkind: Pod\nmetadata: {name: victim}\n",
            3,
            "kind",
        ),
        row("key that is a list", "apiVersion: v1\n? [a, b]\n: c\nkind: Pod\n", 2, ""),
        row(
            "tag of a programming language",
            "apiVersion: v1\nkind: !!python/object:os.system Pod\n",
            2,
            "tag",
        ),
        row("nested a thousand deep", format!("apiVersion: v1\nkind: {}\n", "[".repeat(1000)), 2, ""),
        row(
            "JSON cut short",
            r#"{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "#,
            2,
            "",
        ),
        row("a list at the top", "- apiVersion: v1\n- kind: Pod\n", 1, ""),
        row("a word at the top", "hello\n", 1, ""),
        row(
            "BOM, then an error on line 2",
            "\u{feff}apiVersion: v1\nkind: [1]\nmetadata: {name: x}\n",
            2,
            "kind",
        ),
        row(
            "CRLF, with an error on line 3",
            "apiVersion: v1\r\nkind: ServiceAccount\r\nmetadata: {name: [1]}\r\n",
            3,
            "metadata.name",
        ),
    ]
}

/// Texts that are YAML and no object.
fn objects() -> Vec<Row> {
    let head = "apiVersion: v1\nkind: ServiceAccount\n";
    vec![
        row("no apiVersion", "kind: Service\nmetadata: {name: x}\n", 1, "apiVersion"),
        row("no kind", "apiVersion: v1\nmetadata: {name: x}\n", 1, "kind"),
        row("no name", format!("{head}metadata: {{}}\n"), 3, "name"),
        row("a YAML 1.1 boolean as a name", format!("{head}metadata:\n  name: on\n"), 4, "metadata.name"),
        row(
            "a YAML 1.1 boolean as a label",
            format!("{head}metadata:\n  name: x\n  labels: {{a: yes}}\n"),
            5,
            "labels",
        ),
        row("a name in capitals", format!("{head}metadata: {{name: Victim_1}}\n"), 3, "metadata.name"),
        row(
            "a name of 5,000 letters",
            format!("{head}metadata: {{name: {}}}\n", "x".repeat(5000)),
            3,
            "metadata.name",
        ),
        row(
            "an apiVersion never served",
            document("networking.istio.io/v9", "VirtualService", "  hosts: [a]\n"),
            1,
            "apiVersion",
        ),
        row("two objects of one name", account("victim", 1), 4, "victim"),
    ]
}

/// Objects with impossible values.
fn values() -> Vec<Row> {
    let route = "route: [{destination: {host: reviews}";
    vec![
        row("Service without ports", document("v1", "Service", "  selector: {app: x}\n"), 5, "ports"),
        row("port 70000", document("v1", "Service", "  ports: [{port: 70000}]\n"), 5, "70000"),
        row(
            "duplicate hosts",
            istio("VirtualService", "  hosts: [a, a]\n  http: [{route: [{destination: {host: a}}]}]\n"),
            5,
            "hosts",
        ),
        row(
            "a subset twice",
            istio(
                "DestinationRule",
                "  host: a\n  subsets:\n  - {name: v1, labels: {v: a}}\n  - {name: v1, labels: {v: b}}\n",
            ),
            8,
            "v1",
        ),
        row(
            "route and redirect at once",
            http(&format!("{route}}}]\n    redirect: {{uri: /x}}")),
            7,
            "redirect",
        ),
        row("unknown field", http(&format!("{route}}}]\n    tiemout: 1s")), 8, "tiemout"),
        row("weight -1", http(&format!("{route}, weight: -1}}]")), 7, "-1"),
        row("weight that is a word", http(&format!("{route}, weight: heavy}}]")), 7, "heavy"),
        row("weight that is a fraction", http(&format!("{route}, weight: 1.5}}]")), 7, "1.5"),
        row(
            "weight beyond any integer",
            http(&format!("{route}, weight: 99999999999999999999}}]")),
            7,
            "weight",
        ),
        row("duration in parsecs", http(&format!("{route}}}]\n    timeout: 5 parsecs")), 8, "parsecs"),
        row("negative duration", http(&format!("{route}}}]\n    timeout: -5s")), 8, "-5s"),
        row(
            "fault in 150 percent",
            http(&format!(
                "{route}}}]\n    fault: {{abort: {{httpStatus: 500, percentage: {{value: 150}}}}}}"
            )),
            8,
            "150",
        ),
        row(
            "abort with status 42",
            http(&format!("{route}}}]\n    fault: {{abort: {{httpStatus: 42, percentage: {{value: 1}}}}}}")),
            8,
            "42",
        ),
        row(
            "regex bomb",
            http(&format!("match: [{{uri: {{regex: '((a{{1000}}){{1000}}){{1000}}'}}}}]\n    {route}}}]")),
            7,
            "regex",
        ),
        row(
            "regex that is none",
            http(&format!("match: [{{uri: {{regex: '(('}}}}]\n    {route}}}]")),
            7,
            "regex",
        ),
        row("DestinationRule without host", istio("DestinationRule", "  subsets: [{name: v1}]\n"), 5, "host"),
        row(
            "balancer unheard of",
            istio("DestinationRule", "  host: a\n  trafficPolicy: {loadBalancer: {simple: FASTEST}}\n"),
            6,
            "FASTEST",
        ),
        row(
            "Gateway server without port",
            istio("Gateway", "  selector: {a: b}\n  servers: [{hosts: ['*']}]\n"),
            6,
            "port",
        ),
        row(
            "ServiceEntry without hosts",
            istio("ServiceEntry", "  ports: [{number: 80, name: http, protocol: HTTP}]\n"),
            5,
            "hosts",
        ),
        row(
            "ServiceEntry with an address that is none",
            istio(
                "ServiceEntry",
                "  hosts: [a.b]\n  addresses: [10.0.0.300]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n",
            ),
            6,
            "10.0.0.300",
        ),
    ]
}

struct Scene {
    dir: tempfile::TempDir,
    follower: Follower,
    version: u32,
}

impl Scene {
    async fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("broken.yaml"), account("victim", 0)).unwrap();
        fs::write(dir.path().join("neighbour.yaml"), account("neighbour", 0)).unwrap();
        let follower = Follower::start(Options { paths: vec![dir.path().into()], state: None }).unwrap();
        let mut scene = Scene { dir, follower, version: 0 };
        assert_eq!(scene.next().await.upserts.len(), 2);
        scene
    }

    async fn next(&mut self) -> Update {
        let update = tokio::time::timeout(DEADLINE, self.follower.next()).await;
        update.expect("no update within the deadline").expect("the follower ended")
    }

    /// Drops a text in and changes the neighbour; what is wrong with the answer, if anything.
    async fn drop_in(&mut self, row: &Row) -> Result<(), String> {
        let path = self.dir.path().join("broken.yaml");
        let good = account("victim", self.version) + "---\n";
        let (before, line) = match (row.replaces, row.line) {
            (true, line) => ("", line),
            (false, line) => (good.as_str(), good.lines().count() as u32 + line),
        };
        fs::write(&path, [before.as_bytes(), &row.text].concat()).unwrap();
        self.version += 1;
        fs::write(self.dir.path().join("neighbour.yaml"), account("neighbour", self.version)).unwrap();
        let mut complaints = Vec::new();
        loop {
            let update = self.next().await;
            complaints.extend(update.complaints);
            let changed: Vec<&str> = update.upserts.iter().map(|object| object.meta.name.as_str()).collect();
            match (&changed[..], &update.deletes[..]) {
                ([], []) => {}
                (["neighbour"], []) => return judge(&complaints, &path, line, row.says),
                (changed, deleted) => return Err(format!("changed {changed:?}, deleted {deleted:?}")),
            }
        }
    }

    /// Makes the file good again: nothing is left of what was wrong.
    async fn put_right(&mut self) {
        fs::write(self.dir.path().join("broken.yaml"), account("victim", self.version)).unwrap();
        let mut update = self.next().await;
        while !update.upserts.iter().any(|object| object.meta.name.as_str() == "victim") {
            update = self.next().await;
        }
        assert_eq!(update.complaints, []);
    }
}

fn judge(complaints: &[Complaint], path: &Path, line: u32, says: &str) -> Result<(), String> {
    let told = complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n    ");
    let errors = complaints.iter().filter(|complaint| complaint.severity == Severity::Error);
    let Some(error) = errors.clone().find(|complaint| complaint.to_string().contains(says)) else {
        return Err(format!("no error says {says:?}:\n    {told}"));
    };
    if Path::new(error.file.as_ref()) != path || error.line != line {
        return Err(format!("not at line {line}:\n    {told}"));
    }
    Ok(())
}

#[tokio::test]
async fn malformed_texts_are_told_where_and_disturb_nothing() {
    let mut scene = Scene::new().await;
    let mut wrong = Vec::new();
    let texts = texts().into_iter().map(|row| Row { replaces: true, ..row });
    let rows: Vec<Row> = texts.chain(objects()).chain(values()).collect();
    assert!(rows.len() >= 40);
    for row in &rows {
        if let Err(why) = scene.drop_in(row).await {
            wrong.push(format!("{}: {why}", row.name));
        }
        scene.put_right().await;
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
