//! What is asked in one call of a door: each role, group and service once, whatever asks for it.

use crate::approvers::Approvers;
use crate::directory::Lookup;
use crate::unanswered::{MAX_USERS, Place, Reason, Unanswered, checked};
use bytes::Bytes;
use countersign_domain::Tenant;
use countersign_domain::workflow::delegation::{Delegations, DelegatorId};
use countersign_domain::workflow::policy::{Definition, Kind, Rule, Stage, Who};
use countersign_domain::workflow::request::{Answers, Approver, Asked, Question};
use countersign_store::{Fault, Key, Store};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long everything that is asked in one call may take together.
pub const WITHIN: Duration = Duration::from_secs(10);

/// How many are asked at the same time; a policy must not make us call everybody at once.
const AT_ONCE: usize = 32;

/// Where the delegations of a user are.
#[must_use]
pub fn delegations_key(tenant: &Tenant, user: &str) -> Key<Delegations> {
    Key::new(tenant, &DelegatorId::of(tenant, user).to_string())
}

/// What is asked in one call of a door about one request, and what was answered so far.
#[derive(Debug)]
pub struct Asking {
    approvers: Approvers,
    tenant: Tenant,
    definition: Arc<Definition>,
    context: Arc<Value>,
    deadline: Instant,
    /// What services are sent.
    body: Option<Bytes>,
    /// Whom the outside has named.
    named: HashMap<Lookup, Vec<String>>,
    /// To whom those whose delegations were read have delegated their tasks.
    delegates: HashMap<String, Option<String>>,
}

/// A stage that is to be resolved.
struct Wanted<'d> {
    stage: &'d Stage,
    skipped: bool,
    rules: Vec<(Place, &'d Rule, Source)>,
}

/// Where the users of a rule come from.
enum Source {
    Known(Vec<String>),
    Outside(Lookup),
}

impl Asking {
    pub(crate) fn new(
        approvers: Approvers,
        tenant: Tenant,
        definition: Arc<Definition>,
        context: Arc<Value>,
        deadline: Instant,
    ) -> Self {
        let deadline = deadline.min(Instant::now() + WITHIN);
        let (named, delegates) = (HashMap::new(), HashMap::new());
        Self { approvers, tenant, definition, context, deadline, body: None, named, delegates }
    }

    /// Finds out what a rule has to know, and to whom those who are asked have delegated their tasks as of now.
    ///
    /// # Errors
    /// It cannot be found out; `answers` stays as it was.
    pub async fn answer(&mut self, store: &Store, question: Question, answers: &mut Answers) -> Result<(), Unanswered> {
        let definition = Arc::clone(&self.definition);
        match question {
            Question::Group(first) => match definition.group(first) {
                Some(stages) => {
                    let asked = self.resolve(self.wanted(stages)?).await?;
                    self.add_delegates(store, stages, &asked, answers).await?;
                    answers.groups.insert(first, asked);
                }
                // A policy without stages has no group, and nobody is asked.
                None if definition.stages.is_empty() => {}
                None => return Err(no_stage(first)),
            },
            Question::Escalation(place) => {
                let stage = definition.stages.get(place).ok_or_else(|| no_stage(place))?;
                let asked = self.resolve(vec![self.escalation(stage)?]).await?;
                self.add_delegates(store, std::slice::from_ref(stage), &asked, answers).await?;
                answers.escalations.extend(asked.into_iter().map(|asked| (place, asked)));
            }
        }
        answers.definition = Some(definition);
        Ok(())
    }

    /// Who would be asked in each stage of the policy, in order, without regard to separation of duties and delegations.
    ///
    /// # Errors
    /// It cannot be found out.
    pub async fn stages(&mut self) -> Result<Vec<Asked>, Unanswered> {
        let definition = Arc::clone(&self.definition);
        self.resolve(self.wanted(&definition.stages)?).await
    }

    /// What has to be found out when these stages begin.
    fn wanted<'d>(&self, stages: &'d [Stage]) -> Result<Vec<Wanted<'d>>, Unanswered> {
        let wanted = |stage: &'d Stage| {
            let skipped = self.is_skipped(stage);
            let rules = if skipped { &[][..] } else { &stage.rules };
            Ok(Wanted { stage, skipped, rules: self.sources(stage, rules, false)? })
        };
        stages.iter().map(wanted).collect()
    }

    /// What has to be found out when the approvers of this stage are late: who is to decide instead.
    fn escalation<'d>(&self, stage: &'d Stage) -> Result<Wanted<'d>, Unanswered> {
        let mut rules = self.sources(stage, &stage.escalation_rules, true)?;
        rules.retain(|(_, rule, _)| rule.kind == Kind::Approver);
        Ok(Wanted { stage, skipped: false, rules })
    }

    /// Whether a stage is skipped; one whose condition cannot be evaluated is not.
    fn is_skipped(&self, stage: &Stage) -> bool {
        let matches = stage.skip_if.as_ref().map(|condition| condition.matches(&self.context));
        matches.unwrap_or(Ok(false)).unwrap_or_else(|error| {
            let (tenant, stage) = (self.tenant.as_str(), stage.id);
            tracing::warn!(%error, tenant, %stage, "skip_if cannot be evaluated, and the stage is not skipped");
            false
        })
    }

    /// The rules, each with where it stands and where its users come from.
    fn sources<'d>(
        &self,
        stage: &Stage,
        rules: &'d [Rule],
        escalates: bool,
    ) -> Result<Vec<(Place, &'d Rule, Source)>, Unanswered> {
        let with_source = |(index, rule): (usize, &'d Rule)| {
            let place = Place::of(stage, rule, index, escalates);
            let known = match &rule.who {
                Who::User(user) => Ok(vec![user.clone()]),
                Who::Expression(logic) => logic.texts(&self.context).map_err(Reason::from).and_then(checked),
                Who::Role { .. } | Who::Group(_) | Who::Http(_) => Ok(Vec::new()),
            };
            match (Lookup::of(&rule.who), known) {
                (Some(lookup), _) => Ok((place, rule, Source::Outside(lookup))),
                (None, Ok(users)) => Ok((place, rule, Source::Known(users))),
                (None, Err(reason)) => Err(Unanswered::Rule { place: Box::new(place), reason }),
            }
        };
        rules.iter().enumerate().map(with_source).collect()
    }

    /// Who is asked in these stages, once everybody outside has said whom they name.
    async fn resolve(&mut self, wanted: Vec<Wanted<'_>>) -> Result<Vec<Asked>, Unanswered> {
        self.look_up(&wanted).await?;
        wanted.iter().map(|wanted| self.asked(wanted)).collect()
    }

    /// Asks outside what was not asked before, all at the same time; the first failure is the end of it.
    async fn look_up(&mut self, wanted: &[Wanted<'_>]) -> Result<(), Unanswered> {
        let mut seen = HashSet::new();
        let mut lookups = Vec::new();
        for (place, _, source) in wanted.iter().flat_map(|wanted| &wanted.rules) {
            if let Source::Outside(lookup) = source
                && !self.named.contains_key(lookup)
                && seen.insert(lookup)
            {
                lookups.push((place.clone(), lookup.clone()));
            }
        }
        if lookups.is_empty() {
            return Ok(());
        }
        let body = self.body.get_or_insert_with(|| json!({ "context": *self.context }).to_string().into()).clone();
        let (approvers, tenant, deadline) = (&self.approvers, &self.tenant, self.deadline);
        let ask = |(place, lookup): (Place, Lookup)| {
            let body = body.clone();
            async move {
                let users = approvers.look_up(tenant, &lookup, body, deadline).await;
                let users = users.map_err(|reason| Unanswered::Rule { place: Box::new(place), reason })?;
                Ok::<_, Unanswered>((lookup, users))
            }
        };
        let found: Vec<_> = stream::iter(lookups).map(ask).buffer_unordered(AT_ONCE).try_collect().await?;
        self.named.extend(found);
        Ok(())
    }

    /// Who is asked in a stage: the users of its rules, in their order, nobody twice.
    fn asked(&self, wanted: &Wanted<'_>) -> Result<Asked, Unanswered> {
        let mut asked = Asked { skipped: wanted.skipped, ..Asked::default() };
        let mut approvers: HashMap<&str, usize> = HashMap::new();
        let mut observers: HashSet<&str> = HashSet::new();
        for (_, rule, source) in &wanted.rules {
            let users = match source {
                Source::Known(users) => users.as_slice(),
                Source::Outside(lookup) => self.named.get(lookup).map_or(&[][..], Vec::as_slice),
            };
            for user in users {
                match rule.kind {
                    Kind::Observer if observers.insert(user) => asked.observers.push(user.clone()),
                    Kind::Observer => {}
                    Kind::Approver => {
                        let place = *approvers.entry(user).or_insert(asked.approvers.len());
                        match asked.approvers.get_mut(place) {
                            Some(approver) => approver.required |= rule.required,
                            None => {
                                let approver = Approver { user: user.clone(), required: rule.required };
                                asked.approvers.push(approver);
                            }
                        }
                    }
                }
            }
        }
        if asked.approvers.len() + asked.observers.len() > MAX_USERS {
            return Err(Unanswered::TooManyUsers(wanted.stage.name.clone()));
        }
        Ok(asked)
    }

    /// Adds to whom those who are asked have delegated their tasks, all of whose delegations are read in one go.
    async fn add_delegates(
        &mut self,
        store: &Store,
        stages: &[Stage],
        asked: &[Asked],
        answers: &mut Answers,
    ) -> Result<(), Unanswered> {
        let users = everybody(asked);
        if users.len() > MAX_USERS {
            return Err(Unanswered::TooManyUsers(stages.first().map(|stage| stage.name.clone()).unwrap_or_default()));
        }
        let unread: Vec<&str> = users.iter().copied().filter(|user| !self.delegates.contains_key(*user)).collect();
        if !unread.is_empty() {
            let keys: Vec<_> = unread.iter().map(|user| delegations_key(&self.tenant, user)).collect();
            let mut found = store.load_all(&keys, self.deadline).await?;
            let now = self.approvers.clock().now();
            for (user, key) in unread.iter().zip(&keys) {
                let delegations = found.remove(key.as_str()).transpose()?;
                let delegate = delegations.as_ref().and_then(|found| found.record.delegate(now));
                self.delegates.insert((*user).to_owned(), delegate.map(str::to_owned));
            }
        }
        for user in users {
            if let Some(Some(delegate)) = self.delegates.get(user) {
                answers.delegates.insert(user.to_owned(), delegate.clone());
            }
        }
        Ok(())
    }
}

fn no_stage(place: usize) -> Unanswered {
    Fault::Corrupt(format!("the policy has no stage at place {place}")).into()
}

/// Everybody who is asked for anything.
fn everybody(asked: &[Asked]) -> BTreeSet<&str> {
    let approvers = asked.iter().flat_map(|asked| &asked.approvers).map(|approver| approver.user.as_str());
    approvers.chain(asked.iter().flat_map(|asked| &asked.observers).map(String::as_str)).collect()
}
