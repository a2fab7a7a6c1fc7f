//! Who may call: people with a JWT, as far as its claim `roles` lets them.

use countersign_api::{App, Caller, Credentials, Person, Presented, Problem};
use countersign_domain::{Actor, Tenant};
use http::request::Parts;
use serde_json::Value;

const ADMIN: &str = "admin";
const MEMBER: &str = "member";

/// Someone who may answer approvals and read the audit log.
pub(crate) struct Admin {
    pub(crate) tenant: Tenant,
    actor: Actor,
}

/// Someone who may see remediations, propose them and report on them; every admin may, too.
pub(crate) struct Member {
    pub(crate) tenant: Tenant,
    actor: Actor,
}

impl Caller for Admin {
    async fn establish(parts: &Parts, app: &App) -> Result<Self, Problem> {
        let person = person(parts, app).await?;
        if !has_role(&person, &[ADMIN]) {
            return Err(Problem::forbidden("this needs the role admin"));
        }
        Ok(Self { actor: person.actor(), tenant: person.tenant })
    }

    fn actor(&self) -> Actor {
        self.actor.clone()
    }

    fn tenant(&self) -> Option<&Tenant> {
        Some(&self.tenant)
    }
}

impl Caller for Member {
    async fn establish(parts: &Parts, app: &App) -> Result<Self, Problem> {
        let person = person(parts, app).await?;
        if !has_role(&person, &[ADMIN, MEMBER]) {
            return Err(Problem::forbidden("this needs the role member or admin"));
        }
        Ok(Self { actor: person.actor(), tenant: person.tenant })
    }

    fn actor(&self) -> Actor {
        self.actor.clone()
    }

    fn tenant(&self) -> Option<&Tenant> {
        Some(&self.tenant)
    }
}

async fn person(parts: &Parts, app: &App) -> Result<Person, Problem> {
    Presented::person(match Credentials::read(&parts.headers) {
        Ok(credentials) => credentials.check(app).await,
        Err(denied) => Err(denied),
    })
}

/// Whether the claim `roles`, a list, has one of these. Anything else in its place is no role at all.
fn has_role(person: &Person, wanted: &[&str]) -> bool {
    let roles = person.claim("roles").and_then(Value::as_array);
    roles.is_some_and(|roles| roles.iter().filter_map(Value::as_str).any(|role| wanted.contains(&role)))
}
