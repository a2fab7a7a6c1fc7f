//! Who may see to webhooks: admins with a JWT, holders of an API key made for it, and operators.

use countersign_api::{App, Caller, Credentials, Denied, Form, Operator, Person, Presented, Problem};
use countersign_domain::api_key::Scope;
use countersign_domain::{Actor, Tenant, text};
use http::request::Parts;
use serde_json::Value;

const ADMIN: &str = "admin";

/// Someone who may see to the webhooks of a tenant.
pub(crate) trait Manager: Caller + Sync + 'static {
    /// The tenant that a call is about. Whoever acts for all of them says which in the form.
    fn tenant_in(&self, form: &mut Form) -> Option<Tenant>;
}

/// Someone who may see to their own tenant's webhooks.
pub(crate) struct Admin {
    tenant: Tenant,
    actor: Actor,
}

/// The same of a tenant that is an organization, told in the actions door's words what is wrong with them if they are
/// not.
pub(crate) struct OrganizationAdmin(Admin);

/// Why a caller is not let in.
enum Refused {
    Denied(Denied),
    Role,
    Scope,
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl Admin {
    async fn find(parts: &Parts, app: &App) -> Result<Self, Refused> {
        match Credentials::read(&parts.headers)?.check(app).await? {
            Presented::Person(person) if is_admin(&person) => Ok(Self { actor: person.actor(), tenant: person.tenant }),
            Presented::Person(_) => Err(Refused::Role),
            Presented::Holder(holder) if holder.may(Scope::WebhooksManage) => {
                Ok(Self { actor: holder.actor(), tenant: holder.tenant })
            }
            Presented::Holder(_) => Err(Refused::Scope),
        }
    }
}

/// Whether the claim `role`, or without it one of `roles`, says so.
fn is_admin(person: &Person) -> bool {
    match person.claim("role") {
        Some(role) => role == ADMIN,
        None => person.claim("roles").and_then(Value::as_array).is_some_and(|roles| roles.iter().any(|r| r == ADMIN)),
    }
}

impl Caller for Admin {
    async fn establish(parts: &Parts, app: &App) -> Result<Self, Problem> {
        let unauthorized = |message: &str| Problem::unauthorized("unauthorized", message);
        Self::find(parts, app).await.map_err(|refused| match refused {
            Refused::Denied(Denied::Missing) => {
                unauthorized("send a JWT as Authorization: Bearer, or an API key as X-API-Key")
            }
            Refused::Denied(Denied::Token) => unauthorized("the JWT is not valid"),
            Refused::Denied(Denied::Expired) => unauthorized("the JWT has expired; get a new one"),
            Refused::Denied(Denied::Key) => unauthorized("the API key is not valid"),
            Refused::Denied(Denied::Unavailable(problem)) => problem,
            Refused::Role => Problem::forbidden("this needs the role admin"),
            Refused::Scope => {
                Problem::forbidden(format!("this needs an API key with the scope {}", Scope::WebhooksManage))
            }
        })
    }

    fn actor(&self) -> Actor {
        self.actor.clone()
    }

    fn tenant(&self) -> Option<&Tenant> {
        Some(&self.tenant)
    }
}

impl Caller for OrganizationAdmin {
    async fn establish(parts: &Parts, app: &App) -> Result<Self, Problem> {
        let invalid = |message: &str| Problem::unauthorized("invalid_token", message);
        let admin = Admin::find(parts, app).await.map_err(|refused| match refused {
            Refused::Denied(Denied::Missing) => Problem::unauthorized("missing_auth", "Authentication is required"),
            Refused::Denied(Denied::Token) => invalid("The token is invalid"),
            Refused::Denied(Denied::Expired) => Problem::unauthorized("expired_token", "The token has expired"),
            Refused::Denied(Denied::Key) => invalid("The API key is invalid"),
            Refused::Denied(Denied::Unavailable(problem)) => problem,
            Refused::Role => Problem::forbidden("Your role does not allow this"),
            Refused::Scope => Problem::forbidden(format!("The API key lacks the scope {}", Scope::WebhooksManage)),
        })?;
        match text::exact_number(admin.tenant.as_str()) {
            Some(_) => Ok(Self(admin)),
            None => Err(invalid("The credentials name no organization")),
        }
    }

    fn actor(&self) -> Actor {
        self.0.actor()
    }

    fn tenant(&self) -> Option<&Tenant> {
        self.0.tenant()
    }
}

impl Manager for Admin {
    fn tenant_in(&self, _: &mut Form) -> Option<Tenant> {
        Some(self.tenant.clone())
    }
}

impl OrganizationAdmin {
    /// Whose webhooks they see to.
    pub(crate) fn organization(&self) -> &Tenant {
        &self.0.tenant
    }
}

impl Manager for Operator {
    fn tenant_in(&self, form: &mut Form) -> Option<Tenant> {
        form.required("tenant", Form::parsed)
    }
}
