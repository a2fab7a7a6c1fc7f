//! Who may call this door: holders of API keys, by scope.

use countersign_api::{App, Caller, Credentials, Denied, Holder, Presented, Problem};
use countersign_domain::api_key::Scope;
use countersign_domain::{Actor, Tenant};
use http::request::Parts;

/// The holder of a key that may see cases.
#[derive(Clone, Debug)]
pub(crate) struct Reader(pub(crate) Holder);

/// The holder of a key that may bring cases in, take them from the feed and give verdicts.
#[derive(Clone, Debug)]
pub(crate) struct Writer(pub(crate) Holder);

impl Caller for Reader {
    async fn establish(parts: &Parts, app: &App) -> Result<Self, Problem> {
        holder(parts, app, Scope::CasesRead).await.map(Self)
    }

    fn actor(&self) -> Actor {
        self.0.actor()
    }

    fn tenant(&self) -> Option<&Tenant> {
        Some(&self.0.tenant)
    }
}

impl Caller for Writer {
    async fn establish(parts: &Parts, app: &App) -> Result<Self, Problem> {
        holder(parts, app, Scope::CasesWrite).await.map(Self)
    }

    fn actor(&self) -> Actor {
        self.0.actor()
    }

    fn tenant(&self) -> Option<&Tenant> {
        Some(&self.0.tenant)
    }
}

/// The holder of the key that was sent, if it has this scope.
async fn holder(parts: &Parts, app: &App, scope: Scope) -> Result<Holder, Problem> {
    let credentials = Credentials::read(&parts.headers).map_err(word)?;
    // Nobody's JWT opens this door: its issuer need not even be asked.
    if credentials.token.is_some() {
        return Err(word(Denied::Token));
    }
    match credentials.check(app).await.map_err(word)? {
        Presented::Holder(holder) if holder.may(scope) => Ok(holder),
        Presented::Holder(_) => Err(Problem::forbidden(format!("This API key lacks the scope {scope}"))),
        Presented::Person(_) => Err(word(Denied::Token)),
    }
}

/// One answer for everyone who is not let in, so that nobody learns which keys there are or were.
fn word(denied: Denied) -> Problem {
    match denied {
        Denied::Missing | Denied::Token | Denied::Expired | Denied::Key => {
            Problem::unauthorized("unauthorized", "Send a valid API key as X-API-Key or as Authorization: Bearer")
        }
        Denied::Unavailable(problem) => problem,
    }
}
