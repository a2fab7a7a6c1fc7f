//! The chassis of a door: who is calling, what a body may be, how a refusal looks, and what every request goes
//! through, whether it comes from API Gateway or from a local listener.

mod answer;
mod app;
mod body;
mod call;
mod chassis;
pub mod config;
mod form;
mod guard;
mod identity;
pub mod lambda;
mod listener;
pub mod logging;
mod problem;
mod rate;
mod sealing;
mod secrets;

pub use answer::Answer;
pub use app::{App, Refused};
pub use body::{JsonBody, NoBody};
pub use call::{Call, PathText, QueryText};
pub use chassis::{Plane, router};
pub use form::{Form, Read};
pub use identity::{SigningKey, TokenSigner};
pub use listener::{Listener, shut_down_signal};
pub use problem::{Detail, Problem};
pub use sealing::{RootKey, Sealer};
pub use secrets::{Rotating, SecretText, Secrets, SecretsError};
