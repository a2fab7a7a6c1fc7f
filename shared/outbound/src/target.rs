//! The text of a target, taken as written: what a lenient parser would repair is refused here.

use crate::address::{Manner, Unfit};
use http::HeaderValue;
use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest target, in bytes.
const LONGEST: usize = 2048;
/// The longest DNS name and the longest label of one, in bytes (RFC 1035).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// The target may not be called, and why, in a sentence that names nothing beyond the host that the target names itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct TargetRefused(Reason);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("must be at most {LONGEST} bytes long")]
    Long,
    #[error("must be of printable ASCII characters, without blanks and backslashes")]
    Characters,
    #[error("must begin with https:// and the host")]
    Scheme,
    #[error("must not have a fragment (#)")]
    Fragment,
    #[error("must not name a user or a password")]
    User,
    #[error("must name its host as a DNS name without a dot at the end, or as an IP address in its usual spelling")]
    Host,
    #[error("must write its port as a number from 1 to 65535, without zeros before it")]
    Port,
    #[error("has a character in its path or query that must be percent-encoded")]
    Path,
    #[error("must begin with https:// and use port 443 or 8443")]
    Unusual,
    #[error("{0} {1}")]
    Literal(IpAddr, Unfit),
    #[error("{0} resolves to an address that {1}")]
    Name(String, Unfit),
}

impl TargetRefused {
    /// No address at all may be called in the target's manner.
    pub(crate) fn unusual() -> Self {
        Self(Reason::Unusual)
    }

    /// The host's address, or for a name one of its addresses, may not be called.
    pub(crate) fn unfit(host: &Host, unfit: Unfit) -> Self {
        Self(match host {
            Host::Address(address) => Reason::Literal(*address, unfit),
            Host::Name(name) => Reason::Name(name.clone(), unfit),
        })
    }
}

/// Where to send a request, and nothing that a request could not carry.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) https: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) path: PathAndQuery,
    /// What the `Host` header says.
    pub(crate) authority: HeaderValue,
    /// Whose certificate is expected.
    pub(crate) server: ServerName<'static>,
}

/// A host as the target names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    pub(crate) fn is_localhost(&self) -> bool {
        matches!(self, Self::Name(name) if name.eq_ignore_ascii_case("localhost"))
    }
}

impl Target {
    /// Whether it calls as anyone may, or as only inside an allow-listed network.
    pub(crate) fn manner(&self) -> Manner {
        if self.https && matches!(self.port, 443 | 8443) { Manner::Usual } else { Manner::Unusual }
    }
}

impl FromStr for Target {
    type Err = TargetRefused;

    fn from_str(text: &str) -> Result<Self, TargetRefused> {
        parse(text).map_err(TargetRefused)
    }
}

fn parse(text: &str) -> Result<Target, Reason> {
    if text.len() > LONGEST {
        return Err(Reason::Long);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err(Reason::Characters);
    }
    let (https, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(Reason::Scheme),
    };
    if rest.contains('#') {
        return Err(Reason::Fragment);
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(Reason::User);
    }
    let (written, port) = split_port(authority)?;
    let default = if https { 443 } else { 80 };
    let port = port.map_or(Ok(default), port_number)?;
    let host = host(written)?;
    let authority = if port == default { written.to_owned() } else { format!("{written}:{port}") };
    Ok(Target {
        https,
        port,
        path: path_and_query(path)?,
        authority: HeaderValue::try_from(authority).map_err(|_| Reason::Host)?,
        server: server_name(&host)?,
        host,
    })
}

/// The host as written, with its brackets, and the port if one is written.
pub(crate) fn split_port(authority: &str) -> Result<(&str, Option<&str>), Reason> {
    let end = if authority.starts_with('[') {
        authority.find(']').ok_or(Reason::Host)? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    match authority.split_at(end) {
        (host, "") => Ok((host, None)),
        (host, port) => Ok((host, Some(port.strip_prefix(':').ok_or(Reason::Host)?))),
    }
}

pub(crate) fn port_number(written: &str) -> Result<u16, Reason> {
    let port: u16 = written.parse().map_err(|_| Reason::Port)?;
    if port == 0 || port.to_string() != written { Err(Reason::Port) } else { Ok(port) }
}

pub(crate) fn host(written: &str) -> Result<Host, Reason> {
    let address = match written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => {
            let address: Ipv6Addr = inner.parse().map_err(|_| Reason::Host)?;
            if address.to_string() != inner {
                return Err(Reason::Host);
            }
            Some(IpAddr::V6(address))
        }
        None => written.parse().ok().filter(|address: &Ipv4Addr| address.to_string() == written).map(IpAddr::V4),
    };
    match address {
        Some(address) => Ok(Host::Address(address)),
        None if is_name(written) => Ok(Host::Name(written.to_owned())),
        None => Err(Reason::Host),
    }
}

fn is_name(written: &str) -> bool {
    written.len() <= LONGEST_NAME
        && written.split('.').all(is_label)
        && !written.rsplit('.').next().is_some_and(reads_as_number)
}

fn is_label(label: &str) -> bool {
    (1..=LONGEST_LABEL).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Whether a name that ends with this label would be taken for an address, as in `127.1` and `0x7f000001`.
fn reads_as_number(label: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits(label) || label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")).is_some_and(hex)
}

fn path_and_query(written: &str) -> Result<PathAndQuery, Reason> {
    let whole = if written.starts_with('/') { written.to_owned() } else { format!("/{written}") };
    let path: PathAndQuery = whole.parse().map_err(|_| Reason::Path)?;
    if path.as_str() == whole { Ok(path) } else { Err(Reason::Path) }
}

fn server_name(host: &Host) -> Result<ServerName<'static>, Reason> {
    match host {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Reason::Host),
        Host::Address(address) => Ok(ServerName::from(*address)),
    }
}
