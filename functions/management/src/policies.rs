//! Organizations' settings for their agents' actions.

use axum::extract::State;
use countersign_api::{Answer, App, Call, Detail, Form, JsonBody, PathText, Place, Policies, Problem};
use countersign_domain::actions_policy::{
    ActionsPolicy, FURTHEST_POINTS, KeptPolicy, MAX_POINTS, MAX_RULES, MAX_TTL_MINUTES, Rule, Verdict,
};
use countersign_domain::logic::Logic;
use countersign_domain::risk::{MAX_SCORE, RiskTable};
use countersign_domain::{Tenant, text};
use http::StatusCode;
use serde_json::Value;
use std::collections::BTreeMap;

/// The longest name of a rule, an action type or an indicator.
const NAME: usize = 100;
const HIGHEST_LEVEL: i64 = 5;

/// `GET /organizations/{id}/actions-policy`
pub(crate) async fn show(State(app): State<App>, call: Call, PathText(id): PathText) -> Result<Answer, Problem> {
    let organization = organization(&id)?;
    call.about(&organization);
    let kept = app.store.load(&Policies::key(&organization), call.deadline()).await?;
    Ok(Answer::ok(&kept.map_or_else(ActionsPolicy::default, |kept| kept.record.policy))?)
}

/// `PUT /organizations/{id}/actions-policy`
pub(crate) async fn set(
    State(app): State<App>,
    call: Call,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let organization = organization(&id)?;
    call.about(&organization);
    let policy =
        read(body.clone()).map_err(|problem| Problem { status: StatusCode::UNPROCESSABLE_ENTITY, ..problem })?;
    let set = app
        .change(
            &call,
            &body,
            &Policies::key(&organization),
            |before, now| {
                let sent = (policy.clone(), body.to_string());
                Ok(KeptPolicy::set(before, &organization, sent, &call.actor, now))
            },
            |kept| Answer::ok(&kept.policy),
        )
        .await;
    // Whatever came of it: from now on this process looks.
    app.policies.forget(&organization);
    set.map_err(|refused| refused.or(|never| match never {}))
}

/// An organization by its number, in its one spelling.
fn organization(id: &str) -> Result<Tenant, Problem> {
    let wrong = || Problem::invalid(vec![Detail::at(Place::Path, "id", "must be an organization's number")]);
    text::exact_number(id).and_then(|_| id.parse().ok()).ok_or_else(wrong)
}

/// The settings in a body; what is not said is as by default.
fn read(body: Value) -> Result<ActionsPolicy, Problem> {
    let default = ActionsPolicy::default();
    // Numbers may be kept in more bytes than they were sent in, and an item has at most 400 KB.
    let size = Form::object(&body).map(|_| ());
    let mut form = Form::json(body)?;
    if let Err(error) = size {
        form.refuse("body", error);
    }
    let auto_approve_below = form.optional("auto_approve_below", Form::integer(0, MAX_SCORE + 1));
    let ttl = form.optional("approval_ttl_minutes", Form::integer(1, MAX_TTL_MINUTES));
    let forbid = form.optional("forbid_self_approval", Form::boolean);
    let base_points = form.optional("base_points", points);
    let indicator_points = form.optional("indicator_points", points);
    let rules = form.optional("rules", Form::list(0, MAX_RULES, rule));
    form.finish(|| {
        Some(ActionsPolicy {
            auto_approve_below: auto_approve_below.unwrap_or(default.auto_approve_below),
            approval_ttl_minutes: ttl.unwrap_or(default.approval_ttl_minutes),
            forbid_self_approval: forbid.unwrap_or(default.forbid_self_approval),
            risk: RiskTable {
                base_points: base_points.unwrap_or(default.risk.base_points),
                indicator_points: indicator_points.unwrap_or(default.risk.indicator_points),
            },
            rules: rules.unwrap_or(default.rules),
        })
    })
}

fn points(value: &Value) -> Result<BTreeMap<String, i64>, String> {
    let wrong = || format!("must be an object of at most {MAX_POINTS} names with points");
    let points = value.as_object().filter(|points| points.len() <= MAX_POINTS).ok_or_else(wrong)?;
    let line = |(name, value): (&String, &Value)| {
        Form::text_of(1, NAME)(&name.as_str().into()).map_err(|error| format!("has a name that {error}"))?;
        let points = Form::integer(-FURTHEST_POINTS, FURTHEST_POINTS)(value);
        Ok((name.clone(), points.map_err(|error| format!("has points for {name} that {error}"))?))
    };
    points.iter().map(line).collect()
}

fn rule(value: &Value) -> Result<Rule, String> {
    let fields = value.as_object().ok_or("must be an object")?;
    let field = |name: &str| fields.get(name).ok_or_else(|| format!("needs `{name}`"));
    let name = Form::text_of(1, NAME)(field("name")?).map_err(|error| format!("has a name that {error}"))?;
    let of = |error: String| format!("is rule `{name}`, which {error}");
    let when = Logic::parse(field("when").map_err(of)?.clone()).map_err(|error| of(error.to_string()))?;
    let then = match field("then").map_err(of)?.as_str() {
        Some("allow") => Verdict::Allow,
        Some("require_approval") => Verdict::RequireApproval,
        Some("deny") => Verdict::Deny,
        Some(_) | None => return Err(of("must say then: deny, require_approval or allow".to_owned())),
    };
    let level = match fields.get("level") {
        None | Some(Value::Null) => None,
        Some(_) if then != Verdict::RequireApproval => {
            return Err(of("has a level although it does not require approval".to_owned()));
        }
        Some(level) => {
            let level =
                Form::integer(1, HIGHEST_LEVEL)(level).map_err(|error| of(format!("has a level that {error}")))?;
            u8::try_from(level).ok()
        }
    };
    Ok(Rule { name, when, then, level })
}
