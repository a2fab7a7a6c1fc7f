//! Who may call this door: humans with a JWT decide, agents with an API key submit and follow.

use countersign_api::{App, Call, Caller, Credentials, Denied, Holder, Person, Presented, Problem};
use countersign_domain::action::{Action, ActionId, Approver, Doer, IDS};
use countersign_domain::api_key::Scope;
use countersign_domain::{Actor, Tenant, text};
use countersign_store::Key;
use http::request::Parts;
use serde_json::Value;
use std::marker::PhantomData;

/// The highest approval level that there is.
const HIGHEST_LEVEL: u64 = 5;
/// The level of the role `admin`.
const ADMIN: u8 = 4;

/// Someone of an organization who was let in for a right.
#[derive(Clone, Debug)]
pub(crate) struct Member<R> {
    /// Whose records they see.
    tenant: Tenant,
    /// The same, as the number that this door shows.
    pub(crate) organization: u64,
    actor: Actor,
    /// The user whom they are, or stand for.
    user: Option<u64>,
    /// Up to which level they may decide; 0 for someone who may not.
    level: u8,
    right: PhantomData<fn() -> R>,
}

/// What someone is let in for.
pub(crate) trait Right: Sized + Clone {
    /// What an API key needs; `None` if it takes a human.
    const SCOPE: Option<Scope>;
    /// What a human needs.
    fn allows(human: &Human) -> bool;
    /// What an API key is told where it takes a human.
    const ONLY_HUMANS: &'static str = "This call needs a JWT";
}

/// To decide on actions.
#[derive(Clone, Debug)]
pub(crate) struct Decide;
/// To submit actions, cancel them and report on them.
#[derive(Clone, Debug)]
pub(crate) struct Submit;
/// To see actions.
#[derive(Clone, Debug)]
pub(crate) struct See;
/// To see the audit log.
#[derive(Clone, Debug)]
pub(crate) struct Audit;
/// To see the audit log as the agents' SDK shows it.
#[derive(Clone, Debug)]
pub(crate) struct AuditBySdk;

impl Right for Decide {
    const SCOPE: Option<Scope> = None;
    const ONLY_HUMANS: &'static str = "API keys cannot approve or reject actions";

    fn allows(human: &Human) -> bool {
        human.level.is_some()
    }
}

impl Right for Submit {
    const SCOPE: Option<Scope> = Some(Scope::ActionsSubmit);

    fn allows(_: &Human) -> bool {
        true
    }
}

impl Right for See {
    const SCOPE: Option<Scope> = Some(Scope::ActionsRead);

    fn allows(_: &Human) -> bool {
        true
    }
}

impl Right for Audit {
    const SCOPE: Option<Scope> = None;

    fn allows(human: &Human) -> bool {
        human.admin
    }
}

impl Right for AuditBySdk {
    const SCOPE: Option<Scope> = Some(Scope::ActionsRead);

    fn allows(human: &Human) -> bool {
        human.admin
    }
}

/// What this door reads from a JWT.
pub(crate) struct Human {
    organization: u64,
    user: u64,
    /// Up to which level they may decide; nobody may with a role that does not decide at all.
    level: Option<u8>,
    admin: bool,
}

impl<R: Right> Caller for Member<R> {
    async fn establish(parts: &Parts, app: &App) -> Result<Self, Problem> {
        let credentials = Credentials::read(&parts.headers).map_err(refused)?;
        // Whether the key is one or not: no key gets further here.
        if R::SCOPE.is_none() && credentials.token.is_none() && credentials.key.is_some() {
            return Err(invalid(R::ONLY_HUMANS));
        }
        match (credentials.check(app).await.map_err(refused)?, R::SCOPE) {
            (Presented::Person(person), _) => Self::human(&person),
            (Presented::Holder(_), None) => Err(invalid(R::ONLY_HUMANS)),
            (Presented::Holder(holder), Some(scope)) => Self::agent(holder, scope),
        }
    }

    fn actor(&self) -> Actor {
        self.actor.clone()
    }

    fn tenant(&self) -> Option<&Tenant> {
        Some(&self.tenant)
    }
}

impl<R: Right> Member<R> {
    fn human(person: &Person) -> Result<Self, Problem> {
        let human = Human::read(person)?;
        if !R::allows(&human) {
            return Err(Problem::forbidden("Your role does not allow this"));
        }
        Ok(Self {
            tenant: person.tenant.clone(),
            organization: human.organization,
            actor: person.actor(),
            user: Some(human.user),
            level: human.level.unwrap_or(0),
            right: PhantomData,
        })
    }

    fn agent(holder: Holder, scope: Scope) -> Result<Self, Problem> {
        let organization = organization(&holder.tenant)?;
        if !holder.may(scope) {
            return Err(Problem::forbidden(format!("The API key lacks the scope {scope}")));
        }
        let (actor, user) = (holder.actor(), holder.owner);
        Ok(Self { tenant: holder.tenant, organization, actor, user, level: 0, right: PhantomData })
    }

    /// Where an action of the caller's organization is.
    pub(crate) fn key(&self, id: ActionId) -> Key<Action> {
        Key::new(&self.tenant, &id.to_string())
    }

    /// Whose records the caller sees.
    pub(crate) fn tenant_of(&self) -> &Tenant {
        &self.tenant
    }
}

/// Who does something, and from where.
pub(crate) fn doer<R: Right>(call: &Call<Member<R>>) -> Doer {
    Doer {
        actor: call.actor.clone(),
        user: call.caller.user,
        ip_address: call.client.ip_address.clone(),
        user_agent: call.client.user_agent.clone(),
    }
}

/// The human who decides.
pub(crate) fn approver(call: &Call<Member<Decide>>) -> Result<Approver, Problem> {
    let user = call.caller.user.ok_or_else(Problem::internal)?;
    Ok(Approver { user, level: call.caller.level, doer: doer(call) })
}

fn refused(denied: Denied) -> Problem {
    match denied {
        Denied::Missing => Problem::unauthorized("missing_auth", "Authentication is required"),
        Denied::Token => invalid("The token is invalid"),
        Denied::Expired => Problem::unauthorized("expired_token", "The token has expired"),
        Denied::Key => invalid("The API key is invalid"),
        Denied::Unavailable(problem) => problem,
    }
}

fn invalid(message: &str) -> Problem {
    Problem::unauthorized("invalid_token", message)
}

/// A tenant that is an organization: its number in its one spelling.
fn organization(tenant: &Tenant) -> Result<u64, Problem> {
    text::exact_number(tenant.as_str()).ok_or_else(|| invalid("The credentials name no organization"))
}

impl Human {
    fn read(person: &Person) -> Result<Self, Problem> {
        let organization = organization(&person.tenant)?;
        let user = match person.claim("user_id") {
            Some(user) => user.as_u64(),
            None => text::exact_number(&person.subject),
        };
        let user = user.filter(|user| *user < IDS).ok_or_else(|| invalid("The token names no user"))?;
        let role = highest_role(person);
        let level = match person.claim("approval_level") {
            None => role,
            Some(level) => {
                let level = level.as_u64().filter(|level| *level > 0);
                let level = level.ok_or_else(|| invalid("The token has a wrong approval_level"))?.min(HIGHEST_LEVEL);
                role.and(u8::try_from(level).ok())
            }
        };
        Ok(Self { organization, user, level, admin: role == Some(ADMIN) })
    }
}

/// The level of the highest role of a token; `None` if none of them decides.
fn highest_role(person: &Person) -> Option<u8> {
    let level = |role: &Value| match role.as_str() {
        Some("admin") => Some(ADMIN),
        Some("security_manager") => Some(3),
        Some("manager") => Some(1),
        Some(_) | None => None,
    };
    match person.claim("role") {
        Some(role) => level(role),
        None => person.claim("roles")?.as_array()?.iter().filter_map(level).max(),
    }
}
