//! Notifications against servers of our own: what they hear, what they must not hear, and what happens when they do not listen.

use crate::cli::{Home, text};
use crate::listeners::{Http, Smtp};
use serde_json::{Value, json};
use snapkeep::clock::Timestamp;
use snapkeep::job::{Job, Outcome, Trigger};
use snapkeep::journal::Journal;
use snapkeep::notifications::{self, Message, Sent, Signal};
use snapkeep::service::cycle::{JobReport, TargetReport};
use snapkeep::service::voices;
use snapkeep::settings::plan::Plan;
use snapkeep::settings::plan_notify::{Event, Notify};

const SECRET: &str = "s3cr3t-t0ken";

fn notify(section: Value) -> Notify {
    let notify: Notify = serde_json::from_value(section).expect("a section");
    notify.check().expect("good");
    notify
}

fn message(event: Event, high: bool) -> Message {
    Message {
        event,
        title: "backup of app FAILED".to_owned(),
        text: "the disk is full\nü".to_owned(),
        high,
        key: "app backup:app".to_owned(),
        profile: "app".to_owned(),
        job: "backup:app".to_owned(),
        target: "usb".to_owned(),
        host: "engine".to_owned(),
        outcome: "failed".to_owned(),
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

fn words(sent: &[notifications::Delivery]) -> Vec<String> {
    let word = |d: &notifications::Delivery| match &d.result {
        Sent::Yes(_) => format!("{} sent", d.channel),
        Sent::Held => format!("{} held", d.channel),
        Sent::No(_) => format!("{} failed", d.channel),
    };
    sent.iter().map(word).collect()
}

#[test]
fn each_place_is_told_in_its_own_way() {
    let (http, smtp) = (Http::answering(200), Smtp::new());
    let dir = tempfile::tempdir().expect("a directory");
    let shown = dir.path().join("shown");
    let script = dir.path().join("show");
    std::fs::write(&script, format!("#!/bin/sh\nprintf '%s|%s' \"$1\" \"$2\" > {}\n", shown.display()))
        .expect("written");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("a program");
    let token = dir.path().join("token");
    std::fs::write(&token, format!("{SECRET}\n")).expect("written");
    let notify = notify(json!({
        "ntfy": { "url": http.url("/"), "topic": "alerts", "token": { "file": token } },
        "slack": { "url": http.url(&format!("/services/{SECRET}")) },
        "webhook": [
            { "url": http.url("/hook"), "headers": { "X-Key": { "file": token } }, "template": "{\"t\": \"{title}: {text}\"}" },
            { "url": http.url("/all") },
        ],
        "mail": { "host": "127.0.0.1", "port": smtp.address.port(), "tls": "none", "user": "u",
            "password": { "file": token }, "from": "snapkeep@example.com", "to": ["a@example.com", "b@example.com"] },
        "desktop": { "command": script },
    }));
    let sent = notifications::send(&notify, &message(Event::Failure, true), None, at(0));
    assert!(sent.iter().all(|d| matches!(d.result, Sent::Yes(_))), "{sent:?}");
    assert!(!format!("{sent:?}{notify:?}").contains(SECRET));
    let heard = http.heard();
    let ntfy: Value = serde_json::from_str(&heard[0].body).expect("JSON");
    assert_eq!(
        (&ntfy["topic"], &ntfy["priority"], &ntfy["title"]),
        (&"alerts".into(), &4.into(), &"backup of app FAILED".into())
    );
    assert_eq!(heard[0].header("authorization"), format!("Bearer {SECRET}"));
    assert_eq!(heard[1].path, format!("/services/{SECRET}"));
    assert!(
        serde_json::from_str::<Value>(&heard[1].body).expect("JSON")["text"]
            .as_str()
            .expect("text")
            .contains("full")
    );
    assert_eq!(heard[2].header("x-key"), SECRET);
    let templated: Value = serde_json::from_str(&heard[2].body).expect("JSON");
    assert_eq!(templated["t"], "backup of app FAILED: the disk is full\nü");
    let all: Value = serde_json::from_str(&heard[3].body).expect("JSON");
    assert_eq!(
        (&all["job"], &all["priority"], &all["outcome"]),
        (&"backup:app".into(), &"high".into(), &"failed".into())
    );
    let mail = smtp.said();
    assert!(mail.iter().filter(|line| line.starts_with("RCPT TO")).count() == 2, "{mail:?}");
    assert!(mail.iter().any(|line| line == "Subject: [snapkeep] backup of app FAILED"), "{mail:?}");
    assert!(mail.iter().any(|line| line == "X-Priority: 1"), "{mail:?}");
    assert_eq!(std::fs::read_to_string(shown).expect("shown"), "backup of app FAILED|the disk is full\nü");
}

#[test]
fn a_place_hears_what_it_wants_to_and_not_the_same_thing_twice() {
    let http = Http::answering(200);
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("told.json");
    let notify = notify(json!({
        "min-interval": "1h",
        "ntfy": { "url": http.url("/"), "topic": "t" },
        "webhook": [{ "url": http.url("/all"), "on": ["success", "failure", "report"] }],
    }));
    let send =
        |message: &Message, secs| words(&notifications::send(&notify, message, Some(&state), at(secs)));
    assert_eq!(send(&message(Event::Success, false), 0), ["webhook 1 sent"]);
    assert_eq!(send(&message(Event::Failure, true), 0), ["ntfy sent", "webhook 1 sent"]);
    assert_eq!(send(&message(Event::Failure, true), 3599), ["ntfy held", "webhook 1 held"]);
    let other = Message { title: "well again".to_owned(), ..message(Event::Failure, false) };
    assert_eq!(send(&other, 3599), ["ntfy sent", "webhook 1 sent"], "something else is told at once");
    assert_eq!(send(&message(Event::Failure, true), 3600), ["ntfy sent", "webhook 1 sent"]);
    assert_eq!(send(&message(Event::Failure, true), 7200), ["ntfy sent", "webhook 1 sent"]);
    assert_eq!(
        send(&message(Event::Failure, true), 100),
        ["ntfy sent", "webhook 1 sent"],
        "a clock set back silences nobody"
    );
    std::fs::write(&state, "{ torn").expect("written");
    assert_eq!(send(&message(Event::Failure, true), 101), ["ntfy sent", "webhook 1 sent"]);
}

#[test]
fn who_does_not_listen_is_told_of_without_a_secret_and_costs_the_others_nothing() {
    let (broken, moved, http) = (Http::answering(500), Http::answering(302), Http::answering(200));
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let hook = |url: String| json!({ "url": url });
    let notify = notify(json!({ "webhook": [
        hook(broken.url(&format!("/{SECRET}"))),
        hook(moved.url(&format!("/?token={SECRET}"))),
        hook(format!("http://{gone}/{SECRET}")),
        hook("no url at all s3cr3t-t0ken".to_owned()),
        { "url": { "env": "SNAPKEEP_TEST_NO_SUCH_VARIABLE" } },
        { "url": http.url("/"), "headers": { "X": format!("{SECRET}\nInjected: yes") } },
        hook(http.url("/good")),
    ] }));
    let sent = notifications::send(&notify, &message(Event::Failure, true), None, at(0));
    let bad: Vec<String> = sent.iter().filter_map(notifications::Delivery::trouble).collect();
    assert_eq!(bad.len(), 5, "{bad:?}");
    assert!(!format!("{bad:?}").contains(SECRET), "{bad:?}");
    assert!(bad[0].contains("500") && bad[1].contains("redirect"), "{bad:?}");
    assert!(matches!(sent[6].result, Sent::Yes(_)));
    let heard = http.heard();
    assert_eq!(
        (heard.len(), heard[0].header("x"), heard[0].header("injected")),
        (2, SECRET, ""),
        "one line is one header"
    );
}

#[test]
fn a_dead_mans_switch_hears_of_begin_and_end_of_its_jobs() {
    let http = Http::answering(200);
    let notify = notify(json!({ "ping": { "url": http.url("/uuid-{job}") } }));
    assert!(notifications::ping(&notify, "prune", Signal::Start, "").is_none(), "backups only");
    for signal in [Signal::Start, Signal::Failure, Signal::Success] {
        let sent = notifications::ping(&notify, "backup:app", signal, "why").expect("to be told");
        assert!(matches!(sent.result, Sent::Yes(_)), "{sent:?}");
    }
    let paths: Vec<String> = http.heard().into_iter().map(|h| h.path).collect();
    assert_eq!(paths, ["/uuid-backup-app/start", "/uuid-backup-app/fail", "/uuid-backup-app"]);
}

fn report(outcome: Outcome, code: u8) -> JobReport {
    let target = TargetReport {
        target: "usb".to_owned(),
        outcome,
        code,
        attempts: 1,
        seconds: 1.0,
        summary: Value::Null,
        messages: vec!["the disk is full".to_owned()],
    };
    JobReport {
        job: Job::Backup("app".to_owned()),
        outcome,
        code,
        targets: vec![target],
        seconds: 1.0,
        skipped: None,
        message: None,
        hooks: Vec::new(),
    }
}

#[test]
fn a_failure_is_told_once_and_so_is_its_end() {
    let http = Http::answering(200);
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::at(dir.path());
    let figures = dir.path().join("app.prom");
    let plan = Plan {
        profile: "app".to_owned(),
        notify: notify(
            json!({ "ntfy": { "url": http.url("/"), "topic": "t" }, "ping": { "url": http.url("/ping") } }),
        ),
        metrics: serde_json::from_value(json!({ "file": figures })).expect("a section"),
        ..Plan::default()
    };
    let after = |report: &JobReport, trigger, before, secs| {
        let told = voices::after(&plan, Some(&journal), report, (trigger, before), at(secs));
        assert!(told.is_empty(), "{told:?}");
        http.heard().into_iter().filter(|h| h.path == "/").map(|h| h.body).collect::<Vec<_>>()
    };
    let (bad, good) = (report(Outcome::Failed, 1), report(Outcome::Ok, 0));
    assert!(after(&bad, Trigger::Manual, 0, 0).is_empty(), "whoever runs it by hand sees it");
    assert_eq!(after(&bad, Trigger::Schedule, 0, 0).len(), 1);
    assert_eq!(after(&bad, Trigger::Schedule, 1, 60).len(), 1, "held");
    let told = after(&good, Trigger::Schedule, 2, 120);
    assert!(
        told[0].contains("FAILED") && told[0].contains("the disk is full") && told[1].contains("well again"),
        "{told:?}"
    );
    assert_eq!(after(&good, Trigger::Schedule, 0, 180).len(), 2, "nobody wants to hear of success");
    assert!(after(&report(Outcome::Skipped, 0), Trigger::Schedule, 0, 200).len() == 2);
    let pings =
        http.heard().into_iter().filter(|h| h.path.starts_with("/ping")).map(|h| h.path).collect::<Vec<_>>();
    assert_eq!(pings, ["/ping/fail", "/ping/fail", "/ping/fail", "/ping", "/ping"]);
    assert!(std::fs::read_to_string(&figures).expect("figures").ends_with("# EOF\n"));
}

#[test]
fn a_test_says_what_came_back_from_each_place() {
    let (http, broken) = (Http::answering(200), Http::answering(403));
    let home = Home::new();
    let config = home.path("config/snapkeep");
    std::fs::create_dir_all(&config).expect("a directory");
    let profile = |last: &str| {
        let ntfy = format!("url = \"{}\"\ntopic = \"t\"\ntoken = {{ env = \"TOKEN\" }}", http.url("/"));
        let text = format!("[repository]\nrepository = \"repo\"\n[notify.ntfy]\n{ntfy}\n{last}");
        std::fs::write(config.join("app.toml"), text).expect("written");
    };
    profile("");
    let run = |arguments: &[&str]| home.command(arguments).env("TOKEN", SECRET).output().expect("runs");
    let told = run(&["-P", "app", "notify", "test"]);
    assert_eq!(
        (told.status.code(), text(&told.stdout).as_str()),
        (Some(0), "ntfy: sent: 200\n"),
        "{}",
        text(&told.stderr)
    );
    profile(&format!("[notify.slack]\nurl = \"{}\"", broken.url(&format!("/{SECRET}"))));
    let told = run(&["-P", "app", "notify", "test", "--json"]);
    let lines: Vec<Value> =
        text(&told.stdout).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!((told.status.code(), &lines[1]["result"]), (Some(1), &"failed".into()));
    let all = text(&told.stdout) + &text(&told.stderr);
    assert!(!all.contains(SECRET) && all.contains("403"), "{all}");
    let nobody = home.run(&["notify", "test"]);
    assert_eq!(nobody.status.code(), Some(2));
    profile("[notify.slack]\nurll = \"x\"");
    let wrong = run(&["-P", "app", "notify", "test"]);
    assert!(text(&wrong.stderr).contains("`urll`; the nearest there is: `url`"), "{}", text(&wrong.stderr));
}
