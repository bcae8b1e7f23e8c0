//! Figures: served, pushed, and asked for by a real Prometheus with every query of the dashboard.

use crate::listeners::Http;
use serde_json::Value;
use snapkeep::clock::Timestamp;
use snapkeep::health::{Figures, Space, Status};
use snapkeep::metrics::{self, JobFigures, Page, Server};
use snapkeep::web::{Address, Request};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A page with every family there is.
fn page() -> Page {
    let at = |secs| Timestamp { secs, nanos: 0 };
    let figures = Figures {
        name: "app \"x\" \\ ü".to_owned(),
        host: "engine".to_owned(),
        set: Some("app".to_owned()),
        snapshots: 3,
        age_seconds: Some(60),
        good_age_seconds: Some(60),
        max_age_seconds: Some(3600),
        files: 10,
        bytes: 1000,
        added: 10,
    };
    let status = Status {
        now: at(1_795_000_000),
        place: "/backup".to_owned(),
        profile: Some("app".to_owned()),
        target: Some("usb".to_owned()),
        seen: true,
        series: vec![figures],
        snapshots: 3,
        space: Some(Space { free: 10, total: 100 }),
        days_left: Some(12.5),
        check_age_seconds: Some(1),
        read_age_seconds: Some(2),
        drill_age_seconds: Some(3),
        ..Status::default()
    };
    let job = JobFigures {
        profile: "app".to_owned(),
        job: "backup:app".to_owned(),
        target: "usb".to_owned(),
        last_start: Some(at(1_795_000_000)),
        last_success: Some(at(1_795_000_000)),
        last_code: Some(0),
        last_seconds: Some(1.5),
        last_bytes: Some(1000),
        last_added: Some(10),
        consecutive_failures: 1,
        next: Some(at(1_795_003_600)),
    };
    let mut page = metrics::of_health(&status);
    let whole = JobFigures { target: String::new(), ..job.clone() };
    page.join(metrics::of_jobs(&[job, whole]));
    page
}

#[test]
fn a_page_is_served_and_pushed() {
    let server = Server::start("127.0.0.1:0", Box::new(|| page().text())).expect("listens");
    let get = |path: &str| {
        Request::get(&Address::parse(&format!("http://{}{path}", server.address())).expect("a URL")).send(b"")
    };
    assert_eq!(get("/metrics").expect("answered").body.lines().last(), Some("# EOF"));
    assert!(get("/other").expect_err("not there").message().contains("404"));
    assert!(
        Server::start(&server.address().to_string(), Box::new(String::new)).is_err(),
        "the port is taken"
    );
    let gateway = Http::answering(200);
    metrics::push(&Address::parse(&gateway.url("/")).expect("a URL"), "engine/1", &page()).expect("pushed");
    let heard = &gateway.heard()[0];
    assert_eq!(
        (heard.method.as_str(), heard.path.as_str()),
        ("PUT", "/metrics/job/snapkeep/instance/engine%2F1")
    );
    assert!(heard.body.contains("snapkeep_health_status{") && !heard.body.contains("# EOF"));
}

/// Ended with the test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn dashboard() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grafana/snapkeep.json");
    serde_json::from_slice(&std::fs::read(path).expect("a dashboard")).expect("JSON")
}

fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    targets.map(|target| target["expr"].as_str().expect("a query").replace("$profile", ".*")).collect()
}

#[test]
fn the_dashboard_shows_every_family_and_no_other() {
    let all = queries(&dashboard()).join(" ");
    for name in page().names() {
        let shown = all.match_indices(name).any(|(at, _)| !all[at + name.len()..].starts_with('_'));
        let hidden = ["snapkeep_health_time_seconds", "snapkeep_job_start_time_seconds"];
        assert!(shown || hidden.contains(&name) || MORE.contains(&name), "no panel shows {name}");
    }
}

/// Families for alerts rather than for graphs.
const MORE: [&str; 3] =
    ["snapkeep_repository_reachable", "snapkeep_backup_age_seconds", "snapkeep_backup_snapshots"];

#[test]
fn prometheus_reads_what_we_serve_and_answers_every_query_of_the_dashboard() {
    let server = Server::start("127.0.0.1:0", Box::new(|| page().text())).expect("listens");
    let dir = tempfile::tempdir().expect("a directory");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let config = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: snapkeep\n  static_configs:\n  - targets: ['{}']\n",
        server.address()
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).expect("written");
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
    command.arg(format!("--web.listen-address={free}")).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        println!("NOT TRIED: there is no prometheus on this machine");
        return;
    };
    let _prometheus = Prometheus(child);
    let ask = |query: &str| -> Option<Value> {
        let base = Address::parse(&format!("http://{free}/")).expect("a URL");
        let url = base.below(&["api", "v1", "query"]).expose().to_owned() + "?query=" + &encoded(query);
        let answer = Request::get(&Address::parse(&url).expect("a URL")).send(b"").ok()?;
        serde_json::from_str(&answer.body).ok()
    };
    let up = |answer: Option<Value>| answer.is_some_and(|a| a["data"]["result"][0]["value"][1] == "1");
    let until = Instant::now() + Duration::from_secs(60);
    while !up(ask("up{job=\"snapkeep\"}")) {
        assert!(Instant::now() < until, "prometheus did not read the page");
        std::thread::sleep(Duration::from_millis(200));
    }
    for query in queries(&dashboard()) {
        let answer = ask(&query).unwrap_or_else(|| panic!("{query} was not answered"));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        assert!(!answer["data"]["result"].as_array().expect("a list").is_empty(), "{query} finds nothing");
    }
    let odd = ask("snapkeep_backup_files").expect("answered");
    assert_eq!(odd["data"]["result"][0]["metric"]["set"], "app \"x\" \\ ü");
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}
