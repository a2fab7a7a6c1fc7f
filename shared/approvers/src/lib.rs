//! Who is asked in a stage: the rules of a policy, resolved by a request's context, a directory of roles and groups, and
//! services of the tenant's choice; and to whom those people have delegated their tasks.

mod approvers;
mod asking;
mod definitions;
mod directory;
mod inquiry;
mod keycloak;
mod service;
mod table;
mod unanswered;

pub use approvers::Approvers;
pub use asking::{Asking, WITHIN, delegations_key};
pub use definitions::Definitions;
pub use inquiry::{Inquiry, Workflow};
pub use unanswered::{MAX_USERS, Place, Reason, Unanswered};
