//! What can go wrong with the table itself, and the one way in which reads are tried again.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use std::time::Duration;
use tokio::time::Instant;

/// The table did not do its part; the caller did nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It did not answer in time, or refused to: try again later.
    #[error("the table is unavailable: {0}")]
    Unavailable(String),
    /// What is stored is not what this program wrote.
    #[error("a stored item cannot be read: {0}")]
    Corrupt(String),
}

/// A failed call, sorted by what to do about it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Slow down and call again.
    Transient(String),
    /// Calling again would not help.
    Permanent(Fault),
}

impl<E: ProvideErrorMetadata, T> From<SdkError<E, T>> for Failure {
    fn from(error: SdkError<E, T>) -> Self {
        let Some(service) = error.as_service_error() else {
            return Self::Transient(kind(&error).to_owned());
        };
        let code = service.code().unwrap_or("unknown");
        let reason = format!("{code}: {}", service.message().unwrap_or_default());
        match code {
            // Not a matter of time, but neither the caller's fault nor a broken item: an operator has to act.
            "ResourceNotFoundException" | "AccessDeniedException" | "UnrecognizedClientException" => {
                Self::Permanent(Fault::Unavailable(reason))
            }
            "ValidationException" => Self::Permanent(Fault::Corrupt(reason)),
            _ => Self::Transient(reason),
        }
    }
}

fn kind<E, T>(error: &SdkError<E, T>) -> &'static str {
    match error {
        SdkError::TimeoutError(_) => "the call timed out",
        SdkError::DispatchFailure(_) => "no connection",
        SdkError::ResponseError(_) => "the answer was cut off",
        SdkError::ConstructionFailure(_) | SdkError::ServiceError(_) | _ => "the call failed",
    }
}

/// A pause before trying again: doubling from 10 ms to 640 ms, with full jitter.
pub(crate) fn backoff(failures: u32) -> Duration {
    Duration::from_millis(fastrand::u64(1..=10 << failures.min(6)))
}

/// Waits before the next attempt, unless the caller would be gone by then.
pub(crate) async fn wait(pause: Duration, reason: &str, deadline: Instant) -> Result<(), Fault> {
    if Instant::now() + pause >= deadline {
        return Err(Fault::Unavailable(reason.to_owned()));
    }
    tokio::time::sleep(pause).await;
    Ok(())
}

/// Calls until it works or `deadline` has come; for calls that may be repeated freely.
pub(crate) async fn retrying<T, F>(deadline: Instant, mut call: impl FnMut() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Failure>>,
{
    for failures in 0.. {
        let reason = match tokio::time::timeout_at(deadline, call()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Failure::Permanent(fault))) => return Err(fault),
            Ok(Err(Failure::Transient(reason))) => reason,
            Err(_elapsed) => "the call timed out".to_owned(),
        };
        wait(backoff(failures), &reason, deadline).await?;
    }
    unreachable!("the loop ends by its deadline")
}
