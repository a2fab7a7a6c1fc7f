//! What one change of a request has to know, found out as its rule asks for it.

use crate::approvers::Approvers;
use crate::asking::Asking;
use crate::definitions::Definitions;
use crate::unanswered::Unanswered;
use countersign_api::lambda::{Error, Function};
use countersign_domain::Tenant;
use countersign_domain::workflow::policy::{Definition, Policy};
use countersign_domain::workflow::request::{Answers, INPUT, Question, Request};
use countersign_outbound::Resolver;
use countersign_store::{Fault, Key, Store};
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::time::Instant;

/// What requests are changed with beside the table; cheap to clone.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// Who finds out who is asked.
    pub approvers: Approvers,
    /// What policies say.
    pub definitions: Definitions,
}

impl Workflow {
    /// With these approvers, and no definition read yet.
    #[must_use]
    pub fn new(approvers: Approvers) -> Self {
        Self { approvers, definitions: Definitions::default() }
    }

    /// As the variables of a Lambda function say.
    ///
    /// # Errors
    /// The directory's file is not there or no directory, or the directory's secret is not there.
    pub fn of(function: &Function) -> Result<Self, Error> {
        let (config, clock) = (&function.config.config.approvers, function.app.clock.clone());
        let own = function.own.into_iter().collect();
        let approvers = Approvers::configured(config, &function.app.secrets, Resolver::System, own, clock);
        // As text: the runtime shows a failed start by its Debug form.
        Ok(Self::new(approvers.map_err(|error| error.to_string())?))
    }

    /// What a change of a request of this tenant may have to know. Everything that is asked ends at `deadline`.
    #[must_use]
    pub fn inquiry(&self, tenant: Tenant, deadline: Instant) -> Inquiry {
        Inquiry { workflow: self.clone(), tenant, deadline, asking: None, answers: Answers::default() }
    }
}

/// What was found out for one change of a request.
#[derive(Debug)]
pub struct Inquiry {
    workflow: Workflow,
    tenant: Tenant,
    deadline: Instant,
    asking: Option<Asking>,
    answers: Answers,
}

impl Inquiry {
    /// The same inquiry about a request that is not stored yet.
    #[must_use]
    pub fn about(self, definition: Arc<Definition>, context: Value) -> Self {
        let asking = self.workflow.approvers.asking(&self.tenant, definition, Arc::new(context), self.deadline);
        Self { asking: Some(asking), ..self }
    }

    /// What was found out.
    #[must_use]
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Finds out what a rule of the request at `key` has asked for.
    ///
    /// # Errors
    /// It cannot be found out.
    pub async fn ask(&mut self, store: &Store, key: &Key<Request>, question: Question) -> Result<(), Unanswered> {
        let mut asking = match self.asking.take() {
            Some(asking) => asking,
            None => self.stored(store, key).await?,
        };
        asking.answer(store, question, &mut self.answers).await?;
        self.asking = Some(asking);
        Ok(())
    }

    /// What can be asked about a stored request.
    async fn stored(&self, store: &Store, key: &Key<Request>) -> Result<Asking, Fault> {
        let lost = |what: &str| Fault::Corrupt(format!("{what} of a request cannot be read"));
        let request = store.load(key, self.deadline).await?.ok_or_else(|| lost("the record"))?.record;
        let policy: Key<Policy> = Key::new(&self.tenant, &request.policy.key);
        let definition = self.workflow.definitions.read(store, &policy, &request.policy.item, self.deadline).await?;
        let context = match store.item(key, INPUT, self.deadline).await? {
            None => Value::Object(Map::new()),
            Some(text) => serde_json::from_str(&text).map_err(|_| lost("the context"))?,
        };
        Ok(self.workflow.approvers.asking(&self.tenant, definition, Arc::new(context), self.deadline))
    }
}
