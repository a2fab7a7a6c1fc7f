//! A process that dies at every single point between a decision and the recorded arrival of word of it: whoever comes
//! after it sees to it that each target hears of the decision, under the same event id.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use countersign::{Runner, Table, data};
use countersign_api::config::Local;
use countersign_api::{App, endpoints_key, install_crypto, seal_endpoint_secret};
use countersign_domain::delivery::Delivery;
use countersign_domain::endpoint::{Add, EndpointId, Endpoints, Secret, Subscription};
use countersign_domain::event::Source;
use countersign_domain::{Actor, Tenant, Timestamp};
use countersign_store::{By, Call, Clock, Cursor, CursorKeys, Found, Order, Query, SHARDS, Settings, Store};
use countersign_testing::hook::{Asked, Hooked, Moment};
use countersign_testing::receiver::{Receiver, Reply};
use futures_util::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

const CUSTOMER: &str = "550e8400-e29b-41d4-a716-446655440000";
const EVENT: &str = "evt-1";
const DATA: &str = "COUNTERSIGN_CRASH_DATA";
const POINT: &str = "COUNTERSIGN_CRASH_POINT";
const URLS: &str = "COUNTERSIGN_CRASH_URLS";
/// How many processes live at the same time.
const AT_A_TIME: usize = 6;
/// Whatever is waited for comes sooner, or never: word that died with a process is said again after a minute.
const PATIENCE: Duration = Duration::from_secs(150);

/// When the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// As it makes its nth call to the table since the decision was committed.
    Before(usize),
    /// As the nth call since then is answered, the commit itself being number 0.
    After(usize),
    /// By no doing of its own.
    Never,
}

impl Point {
    fn to_text(self) -> String {
        match self {
            Self::Before(call) => format!("before {call}"),
            Self::After(call) => format!("after {call}"),
            Self::Never => "never".to_owned(),
        }
    }

    fn of(text: &str) -> Self {
        match text.split_once(' ') {
            Some(("before", call)) => Self::Before(call.parse().unwrap()),
            Some((_, call)) => Self::After(call.parse().unwrap()),
            None => Self::Never,
        }
    }
}

/// Counts the calls since the decision, and dies at its point.
struct Fuse {
    point: Point,
    is_decided: AtomicBool,
    begun: AtomicUsize,
    ended: AtomicUsize,
    calls: watch::Sender<usize>,
}

impl Fuse {
    fn burn(&self, moment: Moment, asked: &Asked) {
        // The clock asks all the time; its calls would make no two lives alike.
        if asked.is_of_the_clock() {
            return;
        }
        if moment == Moment::After {
            self.calls.send_modify(|calls| *calls += 1);
        }
        let is_decided = self.is_decided.load(Ordering::SeqCst);
        let here = match moment {
            Moment::Before if is_decided => Point::Before(self.begun.fetch_add(1, Ordering::SeqCst) + 1),
            Moment::After if is_decided => Point::After(self.ended.fetch_add(1, Ordering::SeqCst) + 1),
            Moment::After if is_the_decision(asked) => {
                self.is_decided.store(true, Ordering::SeqCst);
                Point::After(0)
            }
            Moment::Before | Moment::After => return,
        };
        if here == self.point {
            // As hard as by SIGKILL: nothing is written, closed or told.
            std::process::abort();
        }
    }
}

/// Whether this commits the decision; that somebody subscribes to such events is none.
fn is_the_decision(asked: &Asked) -> bool {
    asked.operation == "TransactWriteItems"
        && ["override#", "override.decided"].iter().all(|it| asked.body.contains(it))
}

/// Not a test of its own: what the tests of this file start as a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs to be started by the other tests of this file"]
async fn a_process_that_dies() {
    let Some(data) = env::var_os(DATA) else { return };
    install_crypto();
    let config = Local::read(|name| match name {
        "COUNTERSIGN_DATA" => Some(data.clone()),
        "COUNTERSIGN_LISTEN" | "COUNTERSIGN_MANAGEMENT_LISTEN" => Some(OsString::from("127.0.0.1:0")),
        "COUNTERSIGN_WEBHOOK_TIMEOUT" => Some(OsString::from("1s")),
        "COUNTERSIGN_RETRY_DELAYS" => Some(OsString::from("1s,1s,1s,1s")),
        _ => None,
    });
    let config = config.unwrap();
    let engine = data::engine(&config.data, false).unwrap();
    let (calls, called) = watch::channel(0);
    let fuse = Fuse {
        point: Point::of(&env::var(POINT).unwrap()),
        is_decided: AtomicBool::new(false),
        begun: AtomicUsize::new(0),
        ended: AtomicUsize::new(0),
        calls,
    };
    let hooked = Hooked::new(engine.clone(), move |moment, asked| {
        fuse.burn(moment, asked);
        Box::pin(async {})
    });
    let settings =
        Settings { table: "countersign".to_owned(), clock: Clock::System, fan_out_after: Duration::from_secs(2) };
    let beside = Store::embedded(engine.http_client(), settings.clone());
    let store = Store::embedded(hooked.http_client(), settings);
    store.create_table().await.unwrap();
    let runner = Runner::start(&config, Clock::System, Table::Other(store)).await.unwrap();
    if let Ok(urls) = env::var(URLS) {
        for (number, url) in (1..).zip(urls.split(',')) {
            subscribe(runner.app(), number, url).await;
        }
    }
    let ready = format!("ready {}", runner.management_url());
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(runner.run(stopped));
    say(&ready);
    answer_questions(&beside, called).await;
}

/// Whenever it is asked, says how many deliveries have arrived, once nothing is left to do.
async fn answer_questions(table: &Store, mut called: watch::Receiver<usize>) {
    let (asks, mut asked) = mpsc::unbounded_channel();
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).for_each(|_| asks.send(()).unwrap()));
    while asked.recv().await.is_some() {
        loop {
            called.mark_unchanged();
            if let Some(arrived) = settled(table).await {
                say(&format!("settled {arrived}"));
                break;
            }
            called.changed().await.unwrap();
        }
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\n{line}").unwrap();
    stdout.flush().unwrap();
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn customer() -> Tenant {
    CUSTOMER.parse().unwrap()
}

/// How many deliveries there are, if all of them have arrived and nobody has to look at anything any more.
async fn settled(table: &Store) -> Option<usize> {
    for shard in 0..SHARDS {
        if !table.due(shard, Timestamp::MAX, 1, deadline()).await.unwrap().is_empty() {
            return None;
        }
    }
    let keys = CursorKeys { current: [1; 32], previous: None };
    let tenant = customer();
    let query = Query { tenant: &tenant, by: By::All, order: Order::OldestFirst, limit: 100, with_input: false };
    let from = Cursor { text: None, keys: &keys };
    let listed = table.list(query, from, deadline(), |found: Found<Delivery>| Some(found.record)).await;
    let rows = listed.unwrap().unwrap().rows;
    let arrived = rows.iter().filter(|row| row.get().contains(r#""is":"delivered""#)).count();
    (arrived == rows.len()).then_some(arrived)
}

async fn subscribe(app: &App, number: u128, url: &str) {
    let (tenant, id) = (customer(), EndpointId::from_u128(number));
    let sealer = app.secrets.sealer().await.unwrap();
    let current = seal_endpoint_secret(&sealer, &tenant, &id, b"secret").unwrap();
    let add = Add {
        id,
        url: url.to_owned(),
        events: Subscription::of(&["override.decided".to_owned()]).unwrap(),
        agent: None,
        description: None,
        secret: Secret::Own { current, previous: None },
    };
    let by = Actor::Operator { principal: "test".to_owned() };
    let rule = |found: Option<&Endpoints>, now| Endpoints::add(found, &tenant, add.clone(), &by, now);
    let call = Call { deadline: deadline(), once: None };
    app.store.change(&endpoints_key(&tenant), call, rule, |_| Ok(()), |()| Ok(String::new())).await.unwrap();
}

/// A process that dies, as its parent sees it; killed when it is dropped.
struct Dying {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    management: String,
}

impl Drop for Dying {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Dying {
    async fn start(data: &Path, point: Point, urls: Option<&str>) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["a_process_that_dies", "--exact", "--ignored", "--nocapture"])
            .env(DATA, data)
            .env(POINT, point.to_text())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(urls) = urls {
            command.env(URLS, urls);
        }
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut process = Self { child, lines, management: String::new() };
        process.management = process.hear("ready ").await.unwrap();
        process
    }

    /// The rest of the next line that begins like this; `None` once the process is dead.
    async fn hear(&mut self, beginning: &str) -> Option<String> {
        let heard = async {
            loop {
                let line = self.lines.recv().await?;
                if let Some(rest) = line.strip_prefix(beginning) {
                    return Some(rest.to_owned());
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.unwrap()
    }

    /// How many deliveries have arrived once nothing is left to do; `None` if the process dies before.
    async fn settled(&mut self) -> Option<usize> {
        // It may be dead already.
        let _ = self.child.stdin.as_mut().unwrap().write_all(b"\n");
        self.hear("settled ").await.map(|arrived| arrived.parse().unwrap())
    }

    /// Mints a token that the world has heard of; its jti.
    async fn mint(&mut self, client: &Client) -> String {
        let body = json!({ "customer_id": CUSTOMER, "event_id": EVENT });
        let minted = client.post(format!("{}/tokens/override", self.management)).json(&body).send().await.unwrap();
        let minted: Value = minted.json().await.unwrap();
        assert_eq!(self.settled().await, Some(0));
        minted["jti"].as_str().unwrap().to_owned()
    }

    /// Decides on it; the answer may never come.
    async fn decide(&self, client: &Client, jti: &str) {
        let url = format!("{}/overrides/{EVENT}/decide", self.management);
        let decision = json!({ "override_jti": jti, "customer_id": CUSTOMER, "decision": "approve" });
        if let Ok(answer) = client.post(url).json(&decision).send().await {
            assert_eq!(answer.status(), 200);
        }
    }
}

fn event_id(jti: &str) -> String {
    let source = Source { kind: "override".to_owned(), id: jti.to_owned(), version: 2, entry: 0 };
    source.event_id(&customer()).to_string()
}

fn client() -> Client {
    Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// Lets a process die there, and another one finish its work: whether it got there at all.
async fn dies_at(point: Point) -> bool {
    let data = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let urls = format!("{},{}", receiver.url("/one"), receiver.url("/two"));
    let client = client();
    let mut process = Dying::start(data.path(), point, Some(&urls)).await;
    let jti = process.mint(&client).await;
    process.decide(&client, &jti).await;
    let lived = process.settled().await;
    drop(process);
    if lived.is_none() {
        let mut next = Dying::start(data.path(), Point::Never, None).await;
        assert_eq!(next.settled().await, Some(2), "{point:?}");
    }
    let mut arrived: HashMap<(String, String), usize> = HashMap::new();
    for received in receiver.received() {
        *arrived.entry((received.path.clone(), received.event_id())).or_default() += 1;
    }
    let both = ["/one", "/two"].map(|path| (path.to_owned(), event_id(&jti)));
    assert!(arrived.len() == 2 && both.iter().all(|target| arrived.contains_key(target)), "{point:?}: {arrived:?}");
    if let Some(lived) = lived {
        assert_eq!((lived, receiver.received().len()), (2, 2), "{point:?}: nobody died and nothing came twice");
    }
    lived.is_none()
}

/// Dies at every point, one after the other, until a life ends before it comes to its point.
async fn dies_everywhere(point: impl Fn(usize) -> Point, first: usize) -> usize {
    let mut deaths = 0;
    for start in (first..).step_by(AT_A_TIME) {
        let died = join_all((start..start + AT_A_TIME).map(|call| dies_at(point(call)))).await;
        deaths += died.iter().filter(|died| **died).count();
        if !died.into_iter().all(|died| died) {
            break;
        }
    }
    deaths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_anywhere_between_a_decision_and_its_arrival_loses_no_event() {
    // More rounds meet more of the orders in which two deliveries can overlap.
    let rounds = env::var("COUNTERSIGN_CRASH_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    for _round in 0..rounds {
        let before = dies_everywhere(Point::Before, 1).await;
        let after = dies_everywhere(Point::After, 0).await;
        println!("died before {before} calls and after {after}");
        // The changes and the endpoints are read, two deliveries made, the change marked and two results recorded, each
        // of these by at least a call.
        assert!(before >= 7 && after >= 7, "{before} {after}");
    }
}

/// What a receiver does to the process that calls it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kills {
    OnRequest,
    AfterHalfAnAnswer,
    AfterTheAnswer,
}

/// A receiver that kills its first caller; every later one is answered 200.
struct Killer {
    listener: TcpListener,
    kills: Kills,
    victim: AtomicU32,
    has_killed: AtomicBool,
    events: Mutex<Vec<String>>,
}

impl Killer {
    async fn serve(self: Arc<Self>) {
        loop {
            let (stream, _) = self.listener.accept().await.unwrap();
            Arc::clone(&self).answer(stream).await;
        }
    }

    async fn answer(self: Arc<Self>, mut stream: TcpStream) {
        let mut request = Vec::new();
        while !is_whole(&request) {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let text = String::from_utf8(request).unwrap();
        let id = text.lines().find_map(|line| line.strip_prefix("x-approval-event-id: ")).unwrap();
        self.events.lock().unwrap().push(id.to_owned());
        let first = !self.has_killed.swap(true, Ordering::SeqCst);
        let answer: &[u8] = match self.kills {
            Kills::OnRequest if first => b"",
            Kills::AfterHalfAnAnswer if first => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
            Kills::OnRequest | Kills::AfterHalfAnAnswer | Kills::AfterTheAnswer => {
                b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
            }
        };
        let _ = stream.write_all(answer).await;
        if first {
            let victim = self.victim.load(Ordering::SeqCst).to_string();
            assert!(Command::new("kill").args(["-KILL", &victim]).status().unwrap().success());
        }
    }
}

/// Whether a request has come to its end, by its `content-length`.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    body.len() >= length.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_by_whom_it_calls_loses_no_event() {
    for kills in [Kills::OnRequest, Kills::AfterHalfAnAnswer, Kills::AfterTheAnswer] {
        let data = tempfile::tempdir().unwrap();
        let killer = Arc::new(Killer {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            kills,
            victim: AtomicU32::new(0),
            has_killed: AtomicBool::new(false),
            events: Mutex::default(),
        });
        let url = format!("http://{}/", killer.listener.local_addr().unwrap());
        let serving = tokio::spawn(Arc::clone(&killer).serve());
        let client = client();
        let mut process = Dying::start(data.path(), Point::Never, Some(&url)).await;
        killer.victim.store(process.child.id(), Ordering::SeqCst);
        let jti = process.mint(&client).await;
        process.decide(&client, &jti).await;
        // Waiting closes the input, and at its end the process would go in peace.
        let _input = process.child.stdin.take();
        process.child.wait().unwrap();
        drop(process);
        let mut next = Dying::start(data.path(), Point::Never, None).await;
        assert_eq!(next.settled().await, Some(1), "{kills:?}");
        let events = killer.events.lock().unwrap().clone();
        assert!(events.iter().all(|id| *id == event_id(&jti)), "{kills:?}: {events:?}");
        // What was answered may have been recorded just before the end.
        let at_least = if kills == Kills::AfterTheAnswer { 1 } else { 2 };
        assert!((at_least..=2).contains(&events.len()), "{kills:?}: {events:?}");
        serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_tried_again_in_real_time_until_it_arrives() {
    let data = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let calls = AtomicUsize::new(0);
    receiver.answer(move |_| Reply::status(if calls.fetch_add(1, Ordering::SeqCst) < 3 { 503 } else { 200 }));
    let client = client();
    let mut process = Dying::start(data.path(), Point::Never, Some(&receiver.url("/"))).await;
    let jti = process.mint(&client).await;
    process.decide(&client, &jti).await;
    assert_eq!(process.settled().await, Some(1));
    let received = receiver.received();
    assert_eq!(received.len(), 4);
    assert!(received.iter().all(|received| received.event_id() == event_id(&jti)));
}
