//! A policy as callers write it: the body of its creation and of every other version.

use crate::words::{KindWord, OnBreachWord, OnEmptyWord, RuleTypeWord};
use countersign_api::{Form, Problem};
use countersign_domain::logic::Logic;
use countersign_domain::workflow::policy::{
    Definition, InvalidDefinition, Kind, OnBreach, OnEmpty, Rule, RuleType, Stage,
};
use countersign_domain::workflow::{MAX_DESCRIPTION, MAX_NAME, MAX_STAGES, MAX_TITLE, Mode};
use http::StatusCode;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

/// The most rules of a stage, of each of its two kinds.
const MAX_RULES: usize = 100;

/// A policy as it was written.
pub(crate) struct Written {
    pub(crate) key: String,
    pub(crate) definition: Definition,
}

/// A policy: which stages a request goes through, and who is asked in each.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; `Written::read` reads it field by field")]
pub(crate) struct PolicyCreate {
    /// Names the policy in all its versions; it must be that of the path, where there is one.
    #[schema(max_length = 128, example = "registry.change_request.v1")]
    policy_key: String,
    #[schema(max_length = 255, example = "Change of a registered person")]
    name: String,
    #[schema(max_length = 1024)]
    description: Option<String>,
    /// What its requests are about; for people only, it is not compared with theirs.
    #[schema(max_length = 128, example = "registry.change_request")]
    artifact_type: String,
    /// Whether the requester may not approve.
    #[schema(required = false, default = false)]
    forbid_self_approval: bool,
    /// Whether nobody approves in more than one stage of a request.
    #[schema(required = false, default = false)]
    forbid_repeat_approvers: bool,
    /// Without any, every request is approved at once.
    #[schema(required = false, max_items = 30)]
    stages: Vec<StageIn>,
}

/// A stage of a policy.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; `stage` reads it field by field")]
pub(crate) struct StageIn {
    #[schema(max_length = 255, example = "District officers")]
    name: String,
    /// Where it comes; no two stages have the same, and gaps are fine.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    stage_order: u32,
    /// Of how many of its approvers it needs the approval: `all`, `any-n` or `quorum`, `percentage`, in upper or lower case.
    #[schema(required = false, default = "all", example = "any-n")]
    mode: String,
    /// How many approvals `any-n` and `quorum` need, 1 if null; how many percent `percentage` needs, up to 100, which is what
    /// null means.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    mode_value: Option<u32>,
    /// How long its tasks may take; null is without end.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    sla_hours: Option<u32>,
    /// JSONLogic about the context of a request: the stage is left out where it is true.
    #[schema(value_type = Option<Object>, example = json!({ "<": [{ "var": "amount" }, 1000] }))]
    skip_if: Option<Value>,
    #[schema(required = false, default = "block")]
    on_empty: OnEmptyWord,
    /// Neighbours with the same number run at the same time.
    parallel_group: Option<i32>,
    /// Null is `notify`.
    on_breach: Option<OnBreachWord>,
    /// Who is asked in addition when the stage is late and `on_breach` is `escalate`.
    #[schema(required = false, max_items = 100)]
    escalation_rules: Vec<ApproverRuleIn>,
    /// Who is asked.
    #[schema(required = false, max_items = 100)]
    rules: Vec<ApproverRuleIn>,
}

/// A rule that says who is asked.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; `rule` reads it field by field")]
pub(crate) struct ApproverRuleIn {
    rule_type: RuleTypeWord,
    /// What the type of the rule needs.
    #[schema(value_type = Object, example = json!({ "role": "district-officer" }))]
    rule_value: Value,
    #[schema(required = false, default = "approver")]
    kind: KindWord,
    /// Whether the stage needs the approval of each of these; observers give none.
    #[schema(required = false, default = false)]
    required: bool,
}

/// Reads text of at most `limit` characters. Only NUL is none: what people write comes from many systems.
pub(crate) fn text(limit: usize) -> impl Fn(&Value) -> Result<String, String> {
    move |value| {
        let text = value.as_str().ok_or("must be text")?;
        if text.chars().nth(limit).is_some() {
            return Err(format!("must have at most {limit} characters"));
        }
        if text.contains('\0') { Err("must not contain NUL".to_owned()) } else { Ok(text.to_owned()) }
    }
}

/// A value that is not what was written in the body it stands in, or makes no policy.
pub(crate) fn bad_value(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "AWE-010", message)
}

impl Written {
    /// Reads the body of a policy.
    pub(crate) fn read(body: Value) -> Result<Self, Problem> {
        let mut form = Form::json(body)?;
        let key = form.required("policy_key", text(MAX_NAME));
        let name = form.required("name", text(MAX_TITLE));
        let description = form.optional("description", text(MAX_DESCRIPTION));
        let artifact_type = form.required("artifact_type", text(MAX_NAME));
        let forbid_self_approval = flag(&mut form, "forbid_self_approval");
        let forbid_repeat_approvers = flag(&mut form, "forbid_repeat_approvers");
        let stages = form.objects("stages", MAX_STAGES, stage);
        let (key, definition) = form.finish(|| {
            let (name, artifact_type) = (name?, artifact_type?);
            let definition =
                Definition { name, description, artifact_type, forbid_self_approval, forbid_repeat_approvers, stages };
            Some((key?, definition))
        })?;
        let definition = definition.ordered().map_err(|error: InvalidDefinition| bad_value(error.to_string()))?;
        Ok(Self { key, definition })
    }
}

/// A flag that is down unless it is given; `null` is not one.
fn flag(form: &mut Form, name: &str) -> bool {
    form.given(name, Form::boolean).unwrap_or_default()
}

fn stage(form: &mut Form) -> Option<Stage> {
    let name = form.required("name", text(MAX_TITLE));
    let order = form.required("stage_order", positive);
    let mode = form.given("mode", one_of("all, any-n, quorum or percentage", Mode::named)).unwrap_or(Mode::All);
    let mode_value = form.optional("mode_value", positive);
    if mode == Mode::Percentage && mode_value.is_some_and(|percent| percent > 100) {
        form.refuse("mode_value", "must be at most 100, as a percentage");
    }
    let sla_hours = form.optional("sla_hours", positive);
    let skip_if = form.optional("skip_if", logic);
    let on_empty = form.given("on_empty", one_of("skip or block", OnEmpty::named)).unwrap_or(OnEmpty::Block);
    let parallel_group = form.optional("parallel_group", |value| {
        let number = Form::integer(i32::MIN.into(), i32::MAX.into())(value)?;
        i32::try_from(number).map_err(|error| error.to_string())
    });
    let on_breach =
        form.optional("on_breach", one_of("notify, auto_approve, auto_reject or escalate", OnBreach::named));
    let escalation_rules = form.objects("escalation_rules", MAX_RULES, rule);
    let rules = form.objects("rules", MAX_RULES, rule);
    Some(Stage {
        id: Uuid::new_v4(),
        name: name?,
        order: order?,
        mode,
        mode_value,
        sla_hours,
        skip_if,
        on_empty,
        parallel_group,
        on_breach,
        escalation_rules,
        rules,
    })
}

fn rule(form: &mut Form) -> Option<Rule> {
    let rule_type = form.required("rule_type", one_of("user, role, group, expression or http", RuleType::named));
    let value = form.required("rule_value", object);
    let kind = form.given("kind", one_of("approver or observer", Kind::named)).unwrap_or(Kind::Approver);
    let required = flag(form, "required");
    match Rule::new(Uuid::new_v4(), rule_type?, value?, kind, required) {
        Ok(rule) => Some(rule),
        Err(invalid) => {
            form.refuse(&format!("rule_value.{}", invalid.key), invalid.message);
            None
        }
    }
}

/// Reads a whole number from 1 on.
fn positive(value: &Value) -> Result<u32, String> {
    let number = Form::integer(1, i32::MAX.into())(value)?;
    u32::try_from(number).map_err(|error| error.to_string())
}

/// Reads a documented word.
pub(crate) fn one_of<T>(words: &'static str, named: fn(&str) -> Option<T>) -> impl Fn(&Value) -> Result<T, String> {
    move |value| value.as_str().and_then(named).ok_or_else(|| format!("must be {words}"))
}

fn object(value: &Value) -> Result<Map<String, Value>, String> {
    value.as_object().cloned().ok_or_else(|| "must be an object".to_owned())
}

fn logic(value: &Value) -> Result<Logic, String> {
    if !value.is_object() {
        return Err("must be an object".to_owned());
    }
    Logic::parse(value.clone()).map_err(|error| format!("cannot be evaluated: {error}"))
}
