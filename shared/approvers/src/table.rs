//! The directory in a file: for each tenant, who has which role and who is in which group.
//!
//! ```json
//! {
//!   "tenants": {
//!     "acme": {
//!       "roles": { "approver": ["u-ann", "u-bob"] },
//!       "clients": { "billing": { "approver": ["u-cem"] } },
//!       "groups": { "/finance/leads": ["u-ann"] }
//!     }
//!   },
//!   "default": { "roles": { "approver": ["u-dan"] } }
//! }
//! ```
//! A tenant with a table of its own sees nothing else; `default` is the table of all others, who share its people. Every
//! part may be left out.

use crate::directory::{Membership, bare_path};
use crate::unanswered::checked;
use countersign_api::read_json;
use countersign_domain::Tenant;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

/// Who has which role and is in which group.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    #[serde(default)]
    tenants: HashMap<Tenant, People>,
    #[serde(default)]
    default: People,
}

/// The same within a tenant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct People {
    roles: Members,
    clients: HashMap<String, Members>,
    groups: Members,
}

/// User ids by the name of a role or group.
type Members = HashMap<String, Vec<String>>;

impl Table {
    /// Reads a file, all of which has to make sense.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let value = read_json(text).map_err(|error| error.to_string())?;
        // Lists would be taken for objects, by the order of their fields.
        let tenants = value["tenants"].as_object().into_iter().flat_map(serde_json::Map::values);
        if !tenants.chain(value.get("default")).chain([&value]).all(Value::is_object) {
            return Err("the table, its default and that of each tenant must be objects".to_owned());
        }
        let named = value["tenants"].as_object().map_or(0, serde_json::Map::len);
        let mut table: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if table.tenants.len() != named {
            return Err("a tenant is there twice, in two spellings of its UUID".to_owned());
        }
        for people in table.tenants.values_mut().chain([&mut table.default]) {
            people.check()?;
        }
        Ok(table)
    }

    pub(crate) fn members(&self, tenant: &Tenant, membership: &Membership) -> Vec<String> {
        let people = self.tenants.get(tenant).unwrap_or(&self.default);
        let members = match membership {
            Membership::Role { role, client: None } => people.roles.get(role),
            Membership::Role { role, client: Some(client) } => {
                people.clients.get(client).and_then(|roles| roles.get(role))
            }
            Membership::Group(path) => people.groups.get(path),
        };
        members.cloned().unwrap_or_default()
    }
}

impl People {
    fn check(&mut self) -> Result<(), String> {
        let mut groups = Members::new();
        for (path, members) in std::mem::take(&mut self.groups) {
            if groups.insert(bare_path(&path).to_owned(), members).is_some() {
                return Err(format!("the group {path:?} is there twice, with and without its first slash"));
            }
        }
        self.groups = groups;
        let all = self.clients.values().chain([&self.roles, &self.groups]).flatten();
        for (name, members) in all {
            checked(members.clone()).map_err(|reason| format!("{name:?} {reason}"))?;
        }
        Ok(())
    }
}
