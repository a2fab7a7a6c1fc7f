//! What a newcomer sees on the first start: a line or two for each door, with credentials that work.

use crate::credentials::KeyError;
use crate::demo::{self, DemoError};
use countersign_api::LocalIssuer;
use countersign_domain::Timestamp;
use countersign_store::Store;
use std::path::Path;

/// No hints can be given.
#[derive(Debug, thiserror::Error)]
pub enum HintsError {
    /// No token can be signed.
    #[error(transparent)]
    Token(#[from] DemoError),
    /// No key can be minted.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Where a server is and what its newcomer may use.
#[derive(Clone, Copy, Debug)]
pub struct FirstStart<'a> {
    /// Its data directory.
    pub data: &'a Path,
    /// Its public listener.
    pub public: &'a str,
    /// Its management plane.
    pub management: &'a str,
    /// Its own issuer.
    pub issuer: &'a LocalIssuer,
    /// Its table.
    pub store: &'a Store,
}

impl FirstStart<'_> {
    /// Curl lines that work as pasted.
    ///
    /// # Errors
    /// No credentials can be made.
    pub async fn hints(self) -> Result<String, HintsError> {
        let Self { data, public, management, issuer, store } = self;
        let (data, tenant) = (data.display(), demo::TENANT);
        let token = demo::token(issuer, tenant, demo::USER, &["admin", "AWE_ADMIN"], Timestamp::now())?;
        let key = demo::key()?.mint(store).await?;
        Ok(format!(
            r#"First start: fresh secrets are in {data}, for your eyes only. This is a development set-up with an issuer of its own.
Below, T is a JWT of an admin of tenant {tenant} for 8 hours, K an API key of the same tenant. `countersign token` and
`countersign key` make others. Paste this, then a door's lines:

  P={public} M={management} J='Content-Type: application/json'
  T={token}
  K={key}

Overrides: mint a token that authorizes one decision, and decide with it

  O=$(curl -s $M/tokens/override -H "$J" -d '{{"customer_id":"550e8400-e29b-41d4-a716-446655440000","event_id":"evt-1"}}' | sed 's/.*"jti":"\([^"]*\)".*/\1/')
  curl -s $M/overrides/evt-1/decide -H "$J" -d '{{"override_jti":"'$O'","customer_id":"550e8400-e29b-41d4-a716-446655440000","decision":"approve"}}'; echo

Approvals: propose a remediation, and approve it

  A=$(curl -s $P/v1/remediation -H "Authorization: Bearer $T" -H "$J" -d '{{"incidentTitle":"Slow","title":"Restart","steps":[{{"description":"Restart it"}}]}}' | sed 's/.*"approvalId":"\([^"]*\)".*/\1/')
  curl -s $P/v1/notifications/approvals/$A/respond -H "Authorization: Bearer $T" -H "$J" -d '{{"decision":"approve"}}'; echo

Actions: submit what an agent wants to do, and approve it

  I=$(curl -s $P/api/v1/actions/submit -H "X-API-Key: $K" -H "$J" -d '{{"agent_id":"bot","action_type":"transaction"}}' | sed 's/.*"action_id":\([0-9]*\).*/\1/')
  curl -s -X POST $P/api/v1/actions/$I/approve -H "Authorization: Bearer $T"; echo

Cases: bring in a case, and give its verdict

  C=$(curl -s $P/api/v1/external/cases -H "X-API-Key: $K" -H "$J" -d '{{"title":"Odd login","severity":"low"}}' | sed 's/.*"case_id":"\([^"]*\)".*/\1/')
  curl -s $P/api/v1/external/cases/$C/verdict -H "X-API-Key: $K" -H "$J" -d '{{"outcome":"SAFE"}}'; echo

Workflow: say who is asked, ask, and approve

  curl -s $P/v1/awe/policies -H "Authorization: Bearer $T" -H "$J" -d '{{"policy_key":"buy","name":"Purchases","artifact_type":"purchase","stages":[{{"name":"Lead","stage_order":1,"rules":[{{"rule_type":"user","rule_value":{{"user_id":"42"}}}}]}}]}}'; echo
  curl -s -X POST $P/v1/awe/policies/buy/versions/1/activate -H "Authorization: Bearer $T"; echo
  R=$(curl -s $P/v1/awe/requests -H "Authorization: Bearer $T" -H "$J" -d '{{"policy_key":"buy","artifact_type":"purchase","artifact_id":"p-1"}}' | sed 's/.*"tasks":\[{{"id":"\([^"]*\)".*/\1/')
  curl -s $P/v1/awe/tasks/$R/decision -H "Authorization: Bearer $T" -H "$J" -d '{{"action":"approve"}}'; echo

Webhooks: be told of every event at your own receiver, here one on port 9000, and see what was delivered

  curl -s $P/webhooks/endpoints -H "X-API-Key: $K" -H "$J" -d '{{"url":"http://127.0.0.1:9000/","events":["*"]}}'; echo
  curl -s $P/webhooks/deliveries -H "X-API-Key: $K"; echo
"#
        ))
    }
}
