//! What the stories work with: approvers as a configuration makes them, a table, and policies in short.

use countersign_api::config::{self, ConfigError, Local};
use countersign_api::{RootKey, Rotating, SecretText, Secrets};
use countersign_approvers::{Approvers, Asking, Unanswered, delegations_key};
use countersign_domain::workflow::Editor;
use countersign_domain::workflow::delegation::{Delegations, New};
use countersign_domain::workflow::policy::Definition;
use countersign_domain::workflow::request::{Answers, Asked, Question};
use countersign_domain::{Actor, Outcome, Tenant, seconds};
use countersign_embedded::Engine;
use countersign_outbound::Resolver;
use countersign_store::{Call, Clock, Settings, Store};
use countersign_testing::hook::{Hooked, Moment};
use countersign_testing::keycloak;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::time::Instant;
use uuid::Uuid;

/// For what nobody answers completely.
pub(crate) const BRIEF: Duration = Duration::from_millis(300);

pub(crate) struct World {
    pub(crate) approvers: Approvers,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    /// How often the table was read.
    pub(crate) reads: Arc<AtomicUsize>,
}

pub(crate) fn acme() -> Tenant {
    "acme".parse().unwrap()
}

pub(crate) fn secrets() -> Secrets {
    let rotating = |current| Rotating { current, previous: None };
    let root_key = Rotating { current: RootKey::new([7; 32]), previous: None };
    let known = HashMap::from([("realm".to_owned(), SecretText::new(keycloak::SECRET.to_owned()))]);
    Secrets::fixed(rotating(SecretText::new("override".to_owned())), None, root_key, HashMap::new())
        .with_directory_secrets(known)
}

pub(crate) fn configured(variables: &[(&str, &str)]) -> Result<Approvers, ConfigError> {
    let clock = Clock::manual("2026-11-21T12:00:00Z".parse().unwrap());
    approvers(variables, Resolver::System, &[], &clock)
}

fn approvers(
    variables: &[(&str, &str)],
    resolver: Resolver,
    own: &[SocketAddr],
    clock: &Clock,
) -> Result<Approvers, ConfigError> {
    let variable = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into());
    let config: config::Approvers = Local::read(variable)?.config.approvers;
    Approvers::configured(&config, &secrets(), resolver, own.to_vec(), clock.clone())
}

/// A file with this table in it.
pub(crate) fn file(table: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(table.as_bytes()).unwrap();
    file
}

impl World {
    pub(crate) async fn new(variables: &[(&str, &str)]) -> Self {
        Self::calling(variables, Resolver::System, &[]).await
    }

    /// A world whose directory is this table.
    pub(crate) async fn with_table(table: Value) -> Self {
        let file = file(&table.to_string());
        Self::new(&[("COUNTERSIGN_DIRECTORY", file.path().to_str().unwrap())]).await
    }

    /// A world that asks this resolver for the addresses of names, and listens on these addresses itself.
    pub(crate) async fn calling(variables: &[(&str, &str)], resolver: Resolver, own: &[SocketAddr]) -> Self {
        let clock = Clock::manual("2026-11-21T12:00:00Z".parse().unwrap());
        let reads = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reads);
        let hooked = Hooked::new(Engine::memory().unwrap(), move |moment, asked| {
            let is_read = asked.operation.starts_with("BatchGet");
            count.fetch_add(usize::from(moment == Moment::Before && is_read), Ordering::SeqCst);
            Box::pin(std::future::ready(()))
        });
        let settings =
            Settings { table: "countersign".to_owned(), clock: clock.clone(), fan_out_after: Duration::from_secs(2) };
        let store = Store::embedded(hooked.http_client(), settings);
        store.create_table().await.unwrap();
        let approvers = approvers(variables, resolver, own, &clock).unwrap();
        Self { approvers, store, clock, reads }
    }

    pub(crate) fn asking(&self, definition: &Arc<Definition>, context: Value) -> Asking {
        let deadline = Instant::now() + Duration::from_secs(30);
        self.approvers.asking(&acme(), Arc::clone(definition), Arc::new(context), deadline)
    }

    /// What a rule is told that asks for the group at the first place.
    pub(crate) async fn answers(&self, definition: &Arc<Definition>, context: Value) -> Result<Answers, Unanswered> {
        let mut answers = Answers::default();
        self.asking(definition, context).answer(&self.store, Question::Group(0), &mut answers).await?;
        Ok(answers)
    }

    /// Who is asked in a policy of one stage with these rules.
    pub(crate) async fn asked(&self, rules: Value, context: Value) -> Result<Asked, Unanswered> {
        let answers = self.answers(&policy(json!([stage(1, rules)])), context).await?;
        Ok(answers.groups[&0][0].clone())
    }

    /// The names of those who are asked by one rule.
    pub(crate) async fn named(&self, rule: Value) -> Result<Vec<String>, String> {
        let asked = self.asked(json!([rule]), json!({ "a": 1 })).await.map_err(|error| error.to_string())?;
        Ok(asked.approvers.into_iter().map(|approver| approver.user).collect())
    }

    /// Lets a user delegate for an hour, beginning so many seconds from now.
    pub(crate) async fn delegate(&self, tenant: &Tenant, user: &str, to: &str, begins: i64) {
        let starts_at = self.clock.now() + seconds(begins);
        let new = New {
            user: user.to_owned(),
            delegate_to: to.to_owned(),
            starts_at,
            ends_at: starts_at + seconds(3600),
            reason: None,
        };
        let by = Editor { actor: Actor::Operator { principal: "test".to_owned() }, email: None };
        let call = Call { deadline: Instant::now() + Duration::from_secs(30), once: None };
        let rule = |found: Option<&Delegations>, now| {
            Ok(Outcome::Change(Delegations::add(found, tenant, new.clone(), &by, now)?))
        };
        let key = delegations_key(tenant, user);
        self.store.change(&key, call, rule, |_| Ok(()), |()| Ok(String::new())).await.unwrap();
    }
}

/// A policy of these stages.
pub(crate) fn policy(stages: Value) -> Arc<Definition> {
    let definition = json!({
        "name": "a policy", "description": null, "artifact_type": "thing", "forbid_self_approval": false,
        "forbid_repeat_approvers": false, "stages": stages,
    });
    Arc::new(serde_json::from_value(definition).unwrap())
}

/// A stage with these rules.
pub(crate) fn stage(order: u32, rules: Value) -> Value {
    json!({
        "id": Uuid::from_u128(order.into()), "name": format!("stage {order}"), "order": order, "mode": "all",
        "mode_value": null, "sla_hours": null, "skip_if": null, "on_empty": "block", "parallel_group": null,
        "on_breach": null, "escalation_rules": [], "rules": rules,
    })
}

/// The same with other fields.
pub(crate) fn with(mut value: Value, fields: Value) -> Value {
    value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    value
}

/// A rule for approvers who are not each required.
pub(crate) fn rule(rule_type: &str, value: Value) -> Value {
    json!({ "id": Uuid::nil(), "rule_type": rule_type, "value": value, "kind": "approver", "required": false })
}

pub(crate) fn user(id: &str) -> Value {
    rule("user", json!({ "user_id": id }))
}

pub(crate) fn role(role: &str) -> Value {
    rule("role", json!({ "role": role }))
}

pub(crate) fn group(path: &str) -> Value {
    rule("group", json!({ "group": path }))
}

pub(crate) fn logic(logic: Value) -> Value {
    rule("expression", json!({ "logic": logic }))
}

pub(crate) fn http(url: &str) -> Value {
    rule("http", json!({ "url": url }))
}

/// Those who are to decide, each required one with an exclamation mark.
pub(crate) fn approvers_of(asked: &Asked) -> Vec<String> {
    let name = |approver: &countersign_domain::workflow::request::Approver| {
        format!("{}{}", approver.user, if approver.required { "!" } else { "" })
    };
    asked.approvers.iter().map(name).collect()
}
