//! Who may call: people and services with a JWT, as far as the roles in it let them.

use countersign_api::{App, Caller, Credentials, Detail, Person, Place, Presented, Problem};
use countersign_domain::workflow::request::By;
use countersign_domain::workflow::{Editor, MAX_NAME};
use countersign_domain::{Actor, Tenant};
use http::request::Parts;
use serde_json::Value;
use std::marker::PhantomData;

const ADMIN: &str = "AWE_ADMIN";
const VIEWER: &str = "AWE_VIEWER";
/// The longest e-mail address that there is, in characters; what claims to be a longer one is not kept.
const LONGEST_EMAIL: usize = 254;

/// Someone of a tenant who was let in for a right.
#[derive(Clone, Debug)]
pub(crate) struct Member<R> {
    /// Whose records they see.
    pub(crate) tenant: Tenant,
    /// Who they are, as tasks name their assignees.
    pub(crate) subject: String,
    email: Option<String>,
    is_admin: bool,
    actor: Actor,
    right: PhantomData<fn() -> R>,
}

/// What someone is let in for.
pub(crate) trait Right: Sized + Clone {
    /// The roles of which one is needed; none are if there is none.
    const ROLES: &'static [&'static str];
}

/// To make and follow requests, and to act on tasks of one's own.
#[derive(Clone, Debug)]
pub(crate) struct Anyone;
/// To see policies, delegations, deliveries and the audit log.
#[derive(Clone, Debug)]
pub(crate) struct Viewer;
/// To change them, and to act for others.
#[derive(Clone, Debug)]
pub(crate) struct Admin;

impl Right for Anyone {
    const ROLES: &'static [&'static str] = &[];
}

impl Right for Viewer {
    const ROLES: &'static [&'static str] = &[VIEWER, ADMIN];
}

impl Right for Admin {
    const ROLES: &'static [&'static str] = &[ADMIN];
}

impl<R: Right> Caller for Member<R> {
    async fn establish(parts: &Parts, app: &App) -> Result<Self, Problem> {
        let person = person(parts, app).await?;
        if !R::ROLES.is_empty() && !R::ROLES.iter().any(|role| has_role(&person, role)) {
            return Err(Problem::forbidden(format!("this needs the role {}", R::ROLES.join(" or "))));
        }
        if person.subject.chars().count() > MAX_NAME {
            let message = format!("must be a token whose sub has at most {MAX_NAME} characters");
            return Err(Problem::invalid(vec![Detail::at(Place::Header, "Authorization", message)]));
        }
        let email = person.claim("email").and_then(Value::as_str);
        let email = email.filter(|email| email.chars().count() <= LONGEST_EMAIL && !email.contains('\0'));
        Ok(Self {
            email: email.map(str::to_owned),
            is_admin: has_role(&person, ADMIN),
            actor: person.actor(),
            tenant: person.tenant,
            subject: person.subject,
            right: PhantomData,
        })
    }

    fn actor(&self) -> Actor {
        self.actor.clone()
    }

    fn tenant(&self) -> Option<&Tenant> {
        Some(&self.tenant)
    }
}

impl<R> Member<R> {
    /// Whoever does something to a request.
    pub(crate) fn by(&self) -> By {
        By { actor: self.actor.clone(), email: self.email.clone(), is_admin: self.is_admin }
    }

    /// Whoever changes a policy or a delegation.
    pub(crate) fn editor(&self) -> Editor {
        Editor { actor: self.actor.clone(), email: self.email.clone() }
    }
}

async fn person(parts: &Parts, app: &App) -> Result<Person, Problem> {
    Presented::person(match Credentials::read(&parts.headers) {
        Ok(credentials) => credentials.check_with_default_tenant(app).await,
        Err(denied) => Err(denied),
    })
}

/// Whether a token grants a role: in its realm, or for any client of it.
fn has_role(person: &Person, wanted: &str) -> bool {
    let granted =
        |access: &Value| access["roles"].as_array().is_some_and(|roles| roles.iter().any(|role| role == wanted));
    let of_clients = person.claim("resource_access").and_then(Value::as_object);
    person.claim("realm_access").is_some_and(granted) || of_clients.is_some_and(|clients| clients.values().any(granted))
}
