//! The feed: hands out the cases that wait, oldest first, each of them to one poller.

use crate::caller::Writer;
use crate::cases::{Cases, Row, Shown, page_size, read_input, row};
use axum::extract::State;
use axum::response::IntoResponse;
use countersign_api::{Answer, App, Call, Form, Problem, QueryText, Refused};
use countersign_domain::case::{Case, FEED, Refusal};
use countersign_store::{Fault, Key, PAGE_BYTES};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use http::header::{CACHE_CONTROL, HeaderName};
use serde_json::Value;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::time::Instant;

/// How long cases are looked for; a claim that has begun by then may take its time, and 5 s are the documented whole.
const SEARCH: Duration = Duration::from_secs(4);
/// How many cases are claimed at once.
const CLAIMS: usize = 8;
/// The same while others claim, too: what is lost costs as much as what is won.
const CONTENDED_CLAIMS: usize = 2;
/// The largest case as it is sent, in bytes: 300,000 of metadata, 40,000 of description, and the rest.
const LARGEST_CASE: usize = 350_000;
/// Among how many waiting cases a poller chooses once others are in its way.
const SPREAD: usize = 200;
/// What a cache gave again would be handed out twice.
const UNCACHED: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

/// `GET /cases/feed?page_size=`
pub(crate) async fn take(
    State(app): State<App>,
    call: Call<Writer>,
    QueryText(query): QueryText,
) -> Result<impl IntoResponse, Problem> {
    let mut form = Form::query(&query);
    let size = page_size(&mut form);
    form.finish(|| Some(()))?;
    let until = call.within(SEARCH);
    let mut search = Search { app: &app, call: &call, until, size, contended: false, found: Vec::new(), bytes: 0 };
    match search.run().await {
        Err(problem) if search.found.is_empty() => Err(problem),
        // Whatever ended the search: what was claimed is told now or never.
        Ok(()) | Err(_) => Ok((UNCACHED, Answer::ok(&Cases { cases: search.found, next_cursor: None })?)),
    }
}

/// `HEAD /cases/feed` hands out nothing: its answer could not tell.
pub(crate) async fn look(_: Call<Writer>) -> impl IntoResponse {
    UNCACHED
}

/// A page on its way to being full.
struct Search<'a> {
    app: &'a App,
    call: &'a Call<Writer>,
    until: Instant,
    /// How many cases the page may have.
    size: usize,
    /// Whether other pollers got in the way.
    contended: bool,
    found: Vec<Row>,
    bytes: usize,
}

impl Search<'_> {
    /// Claims cases until the page is full or none is waiting.
    async fn run(&mut self) -> Result<(), Problem> {
        while self.room() > 0 {
            if self.is_over() {
                return Err(Problem::unavailable());
            }
            let waiting = self.waiting().await?;
            if waiting.is_empty() {
                return Ok(());
            }
            self.claim(waiting).await?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// How many claims may be on their way: all of them could succeed, and each case be as large as a case can be.
    fn room(&self) -> usize {
        let bytes = PAGE_BYTES.saturating_sub(self.bytes) / LARGEST_CASE;
        let claims = if self.contended { CONTENDED_CLAIMS } else { CLAIMS };
        claims.min(self.size - self.found.len()).min(bytes)
    }

    /// The cases to try next: those that wait longest, or any once many pollers would all try these.
    async fn waiting(&self) -> Result<Vec<Key<Case>>, Fault> {
        let limit = if self.contended { SPREAD } else { self.size - self.found.len() };
        let mut waiting = self.app.store.inbox(&self.call.caller.0.tenant, FEED, limit, self.until).await?;
        if self.contended {
            fastrand::shuffle(&mut waiting);
        }
        Ok(waiting)
    }

    /// Claims these one after the other, several at once, and waits for what became of every claim that was begun.
    async fn claim(&mut self, waiting: Vec<Key<Case>>) -> Result<(), Problem> {
        let mut waiting = waiting.into_iter();
        let mut claims = FuturesOrdered::new();
        let mut ended = Ok(());
        let mut lost = 0;
        loop {
            while ended.is_ok() && claims.len() < self.room() && !self.is_over() {
                let Some(key) = waiting.next() else { break };
                claims.push_back(hand_out(self.app, self.call, key));
            }
            let Some(claim) = claims.next().await else { return ended };
            match claim {
                Ok(Some(case)) => {
                    self.bytes += case.get().len() + 1;
                    self.found.push(case);
                }
                Ok(None) => {
                    lost += 1;
                    // Another poller is on the same way, perhaps ahead all along; or what was seen is long gone.
                    if !self.contended || lost == CLAIMS {
                        waiting = Vec::new().into_iter();
                    }
                    self.contended = true;
                }
                Err(problem) => ended = Err(problem),
            }
        }
    }
}

/// Hands out one case, as the caller is told of it; `None` if it no longer waits.
async fn hand_out(app: &App, call: &Call<Writer>, key: Key<Case>) -> Result<Option<Row>, Problem> {
    // First of all, and it never changes: what is handed out can then be shown.
    let input = read_input(app, &key, call.deadline()).await?;
    let handed_out = app.change(
        call,
        &Value::Null,
        &key,
        |case: Option<&Case>, now| case.ok_or(Refusal::NotFound)?.hand_out(&call.actor, now),
        |case| Answer::ok(&row(&Shown::new(case, &input))?),
    );
    match handed_out.await {
        Ok(answer) => {
            let row = RawValue::from_string(answer.into_body());
            Ok(Some(row.map_err(|error| Fault::Corrupt(format!("a case cannot be written: {error}")))?))
        }
        Err(Refused::Rule(_)) => Ok(None),
        Err(Refused::Problem(problem)) => Err(problem),
    }
}
