//! The words that fields hold, for the document alone: what they mean is said by the rules.

use utoipa::ToSchema;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident $shown:ident [$($variant:ident $word:literal),* $(,)?])*) => { $(
        $(#[$doc])*
        #[derive(ToSchema)]
        #[schema(as = $shown)]
        #[expect(dead_code, reason = "stands for a word in the document")]
        pub(crate) enum $name { $(#[schema(rename = $word)] $variant),* }
    )* };
}

words! {
    /// Of how many of its approvers a stage needs the approval: all, `mode_value` of them, or that many percent.
    ModeWord Mode [All "all", AnyN "any-n", Quorum "quorum", Percentage "percentage"]
    /// What becomes of a stage in which there is nobody to ask: it is left out, or the request is rejected.
    OnEmptyWord OnEmpty [Skip "skip", Block "block"]
    /// What happens when a stage is late: its request goes on waiting, is decided, or more people are asked.
    OnBreachWord OnBreach [
        Notify "notify", AutoApprove "auto_approve", AutoReject "auto_reject", Escalate "escalate",
    ]
    /// Whether somebody decides, or is only shown what others decide about.
    KindWord Kind [Approver "approver", Observer "observer"]
    /// How a rule finds whom to ask: `user` by `{"user_id"}`, `role` by `{"role", "client"?}` and `group` by `{"group"}` in
    /// the directory, `expression` by `{"logic"}`, which gives ids out of the context, `http` by `{"url"}` of a service.
    RuleTypeWord RuleType [User "user", Role "role", Group "group", Expression "expression", Http "http"]
    /// A decision about a task. In the mode `all` one `reject` ends the request; `abstain` leaves it to the others.
    ActionWord Action [Approve "approve", Reject "reject", Abstain "abstain"]
    /// New requests go through the active version. A draft can be edited; any version can be made active.
    VersionStatus PolicyStatus [Draft "draft", Active "active", Archived "archived"]
    /// How a request stands; the last three are final.
    RequestStatus RequestStatus [
        Pending "pending", InReview "in_review", Approved "approved", Rejected "rejected", Cancelled "cancelled",
    ]
    /// How a task stands; `open` and `claimed` ones wait for a decision.
    TaskStatus TaskStatus [
        Open "open", Claimed "claimed", Completed "completed", Skipped "skipped", Expired "expired",
        Reassigned "reassigned",
    ]
    /// How a callback stands: waiting for an attempt, taken by its receiver, given up, or called off.
    DeliveryStatus DeliveryStatus [
        Pending "pending", Delivered "delivered", Exhausted "exhausted", Cancelled "cancelled",
    ]
}
