//! The chassis of a door: who is calling, what a body may be, how a refusal looks, and what every request goes
//! through, whether it comes from API Gateway or from a local listener.

mod answer;
mod app;
mod aws;
mod body;
mod cache;
mod call;
mod caller;
mod chassis;
pub mod config;
mod dialect;
mod form;
mod guard;
mod identity;
mod issuers;
mod jwks;
mod keys;
pub mod lambda;
mod listener;
pub mod logging;
pub mod metrics;
mod policies;
mod problem;
mod rate;
mod sealing;
mod secrets;
mod traces;
mod webhook;

pub use answer::{Answer, Listed};
pub use app::{App, Refused};
pub use body::{JsonBody, NoBody, read_json};
pub use call::{Call, Client, PathText, QueryText, Target};
pub use caller::{Caller, Credentials, Denied, Holder, Operator, Person, Presented};
pub use chassis::{Plane, router};
pub use dialect::Envelope;
pub use form::{Form, Read};
pub use identity::{SigningKey, TokenSigner, install_crypto};
pub use issuers::{Issuers, LocalIssuer};
pub use keys::{Keys, random_bits, random_bytes};
pub use listener::{Listener, shut_down_signal};
pub use policies::Policies;
pub use problem::{Detail, Place, Problem};
pub use sealing::{RootKey, Sealer};
pub use secrets::{DirectorySecret, Rotating, SecretText, Secrets, SecretsError};
pub use webhook::{Outgoing, Signers, Unsent, endpoints_key, seal_endpoint_secret, seal_named_secret, secret_key};
