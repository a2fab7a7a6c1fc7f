//! The data directory: the embedded table's file and the secrets, for the owner's eyes only.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign_api::config::Local;
use countersign_api::{LocalIssuer, RootKey, Rotating, SecretText, Secrets};
use countersign_embedded::Engine;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const SECRETS: &str = "secrets.json";
const TABLE: &str = "table.db";
/// Says that a server has started here, and shown its hints.
const STARTED: &str = "started";

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
    /// The local issuer's private key, PKCS #8 in base64. Files of earlier versions have none.
    #[serde(default)]
    issuer_key: Option<String>,
    /// Signs callbacks for which their tenant has no secret. Files of earlier versions have none.
    #[serde(default)]
    callback_secret: Option<String>,
    /// The secrets that `hs256_secret_id` names, put here by hand.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    issuer_secrets: HashMap<String, String>,
    /// The secrets that the `secret_id` of a directory names, put here by hand.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    directory_secrets: HashMap<String, String>,
}

/// The secrets of a data directory.
#[derive(Debug)]
pub struct Kept {
    /// Those that every process has.
    pub secrets: Secrets,
    /// The local issuer.
    pub issuer: LocalIssuer,
}

/// Reads the secrets, generating them on the first start.
///
/// # Errors
/// The directory or the file cannot be used.
pub fn secrets(config: &Local) -> Result<Kept, DataError> {
    let directory = &config.data;
    make_directory(directory)?;
    let path = directory.join(SECRETS);
    generate(directory, &path)?;
    let mut file = read(&path)?;
    if !file.is_complete() {
        file = completed(directory, &path)?;
    }
    let malformed = || DataError::Malformed(path.clone());
    let root_key = RootKey::parse(&file.root_key).ok_or_else(malformed)?;
    let issuer_key = BASE64_STANDARD.decode(file.issuer_key.unwrap_or_default()).map_err(|_| malformed())?;
    let issuer = LocalIssuer::new(issuer_key).ok_or_else(malformed)?;
    let override_secret = Rotating {
        current: SecretText::new(config.override_secret.clone().unwrap_or(file.override_secret)),
        previous: config.override_secret_previous.clone().map(SecretText::new),
    };
    let named = |secrets: HashMap<String, String>| {
        secrets.into_iter().map(|(id, secret)| (id, SecretText::new(secret))).collect()
    };
    let callback_secret = config.callback_secret.clone().or(file.callback_secret).map(SecretText::new);
    let root_key = Rotating { current: root_key, previous: None };
    let secrets = Secrets::fixed(override_secret, callback_secret, root_key, named(file.issuer_secrets))
        .with_directory_secrets(named(file.directory_secrets));
    Ok(Kept { secrets, issuer })
}

fn read(path: &Path) -> Result<SecretsFile, DataError> {
    refuse_open(path)?;
    let file = fs::read(path).map_err(|error| DataError::Io { path: path.to_owned(), error })?;
    serde_json::from_slice(&file).map_err(|_| DataError::Malformed(path.to_owned()))
}

impl SecretsFile {
    /// Whether it has all that the present version generates.
    fn is_complete(&self) -> bool {
        self.issuer_key.is_some() && self.callback_secret.is_some()
    }
}

/// Gives a secrets file of an earlier version what it has not, once, also when two start at once.
fn completed(directory: &Path, path: &Path) -> Result<SecretsFile, DataError> {
    let io = |error| DataError::Io { path: path.to_owned(), error };
    // Whoever waits for this lock finds all of it afterwards in the file that has taken this one's place.
    let locked = fs::File::open(path).map_err(io)?;
    locked.lock().map_err(io)?;
    let mut file = read(path)?;
    if !file.is_complete() {
        if file.issuer_key.is_none() {
            file.issuer_key = Some(fresh_issuer_key(path)?);
        }
        if file.callback_secret.is_none() {
            file.callback_secret = Some(random_text(path)?);
        }
        write(directory, &file, |written| written.persist(path).map_err(|error| error.error)).map_err(io)?;
    }
    Ok(file)
}

fn fresh_issuer_key(path: &Path) -> Result<String, DataError> {
    let issuer = LocalIssuer::generate();
    let issuer = issuer.map_err(|error| DataError::Io { path: path.to_owned(), error: io::Error::other(error) })?;
    Ok(BASE64_STANDARD.encode(issuer.pkcs8()))
}

/// A secret that nobody can guess.
fn random_text(path: &Path) -> Result<String, DataError> {
    let error = |_| io::Error::other("the system gives no random numbers");
    let key = RootKey::generate().map_err(error).map_err(|error| DataError::Io { path: path.to_owned(), error })?;
    Ok(key.to_text())
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

/// Whether no server has started on this directory before; the next one has.
///
/// # Errors
/// The directory cannot be used.
pub fn is_first_start(directory: &Path) -> Result<bool, DataError> {
    let path = directory.join(STARTED);
    let mut options = fs::OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(DataError::Io { path, error }),
    }
}

/// Writes a secrets file with fresh secrets unless there is one; whole or not at all, also when two start at once.
fn generate(directory: &Path, path: &Path) -> Result<(), DataError> {
    if path.exists() {
        return Ok(());
    }
    let io = |error| DataError::Io { path: path.to_owned(), error };
    let file = SecretsFile {
        override_secret: random_text(path)?,
        root_key: random_text(path)?,
        issuer_key: Some(fresh_issuer_key(path)?),
        callback_secret: Some(random_text(path)?),
        issuer_secrets: HashMap::new(),
        directory_secrets: HashMap::new(),
    };
    match write(directory, &file, |written| written.persist_noclobber(path).map_err(|error| error.error)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io(error)),
    }
}

/// Writes the file under another name, and lets `place` give it its own.
fn write(
    directory: &Path,
    file: &SecretsFile,
    place: impl FnOnce(NamedTempFile) -> io::Result<fs::File>,
) -> io::Result<fs::File> {
    // A temporary file is the owner's alone from the start.
    let mut written = NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut written, file)?;
    written.write_all(b"\n")?;
    written.as_file().sync_all()?;
    place(written)
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
