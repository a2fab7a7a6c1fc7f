//! The data directory: the embedded table's file and the secrets, for the owner's eyes only.

use countersign_api::config::Local;
use countersign_api::{RootKey, Rotating, SecretText, Secrets};
use countersign_embedded::Engine;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const SECRETS: &str = "secrets.json";
const TABLE: &str = "table.db";

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The system says no.
    #[error("{path}: {error}")]
    Io {
        /// What could not be used.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others could read the secrets.
    #[error("{0} can be read by others; make it yours alone: chmod 600 {0}")]
    Open(PathBuf),
    /// The file is not what this program wrote.
    #[error("{0} is not a secrets file of countersign; mend it or move it away")]
    Malformed(PathBuf),
    /// There is nothing to look at.
    #[error("there is no table in {0}; has a server run on it?")]
    NoTable(PathBuf),
    /// The engine cannot open the table.
    #[error(transparent)]
    Engine(#[from] countersign_embedded::EngineError),
}

/// What a first start generates and every later one reads.
#[derive(Serialize, Deserialize)]
struct SecretsFile {
    override_secret: String,
    root_key: String,
}

/// Reads the secrets, generating them on the first start; true if this was the first.
///
/// # Errors
/// The directory or the file cannot be used.
pub fn secrets(config: &Local) -> Result<(Secrets, bool), DataError> {
    let directory = &config.data;
    make_directory(directory)?;
    let path = directory.join(SECRETS);
    let first = generate(directory, &path)?;
    refuse_open(&path)?;
    let malformed = || DataError::Malformed(path.clone());
    let file = fs::read(&path).map_err(|error| DataError::Io { path: path.clone(), error })?;
    let file: SecretsFile = serde_json::from_slice(&file).map_err(|_| malformed())?;
    let root_key = RootKey::parse(&file.root_key).ok_or_else(malformed)?;
    let override_secret = Rotating {
        current: SecretText::new(config.override_secret.clone().unwrap_or(file.override_secret)),
        previous: config.override_secret_previous.clone().map(SecretText::new),
    };
    Ok((Secrets::fixed(override_secret, Rotating { current: root_key, previous: None }), first))
}

/// Opens the embedded table, making its file unless it `must_exist`.
///
/// # Errors
/// The file cannot be used, or is missing.
pub fn engine(directory: &Path, must_exist: bool) -> Result<Engine, DataError> {
    let path = directory.join(TABLE);
    if must_exist && !path.exists() {
        return Err(DataError::NoTable(directory.to_owned()));
    }
    make_directory(directory)?;
    // Made by us, so that it is the owner's alone; SQLite gives its other files the same mode.
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&path).map_err(|error| DataError::Io { path: path.clone(), error })?;
    refuse_open(&path)?;
    Ok(Engine::open(&path)?)
}

fn make_directory(directory: &Path) -> Result<(), DataError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|error| DataError::Io { path: directory.to_owned(), error })
}

/// Writes a secrets file with fresh secrets unless there is one; whole or not at all, also when two start at once.
fn generate(directory: &Path, path: &Path) -> Result<bool, DataError> {
    if path.exists() {
        return Ok(false);
    }
    let io = |error| DataError::Io { path: path.to_owned(), error };
    let random = |_| io(io::Error::other("the system gives no random numbers"));
    let file = SecretsFile {
        override_secret: RootKey::generate().map_err(random)?.to_text(),
        root_key: RootKey::generate().map_err(random)?.to_text(),
    };
    // A temporary file is the owner's alone from the start.
    let mut written = tempfile::NamedTempFile::new_in(directory).map_err(io)?;
    serde_json::to_writer_pretty(&mut written, &file).map_err(|error| io(error.into()))?;
    written.write_all(b"\n").and_then(|()| written.as_file().sync_all()).map_err(io)?;
    match written.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io(error.error)),
    }
}

#[cfg(unix)]
fn refuse_open(path: &Path) -> Result<(), DataError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).map_err(|error| DataError::Io { path: path.to_owned(), error })?.permissions().mode();
    if mode & 0o077 == 0 { Ok(()) } else { Err(DataError::Open(path.to_owned())) }
}

#[cfg(not(unix))]
fn refuse_open(_: &Path) -> Result<(), DataError> {
    Ok(())
}
