//! Single places that may be called although not public: a host on a port.

use crate::target::{self, Host};
use std::net::IpAddr;
use std::str::FromStr;

/// A host, by its name or address, on one port or on any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    host: Host,
    port: Option<u16>,
}

/// The text is no list of places.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a host with a port: write them as directory.internal:8080, 10.0.0.7:443 or [fd12::7]:443, \
     separated by commas; * is any port"
)]
pub struct InvalidPlaces(String);

impl Place {
    /// Reads places separated by commas; nothing at all is no place.
    ///
    /// # Errors
    /// An entry is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, InvalidPlaces> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        text.split(',').map(|entry| entry.trim().parse()).collect()
    }

    /// Whether it is what a target means that names this host and was found at this address. A place that is an address
    /// is meant by every name of it; one that is a name, wherever it is found.
    pub(crate) fn covers(&self, host: &Host, address: IpAddr, port: u16) -> bool {
        let is_host = match &self.host {
            Host::Address(own) => *own == address,
            Host::Name(own) => matches!(host, Host::Name(name) if name.eq_ignore_ascii_case(own)),
        };
        is_host && self.port.is_none_or(|own| own == port)
    }
}

impl FromStr for Place {
    type Err = InvalidPlaces;

    fn from_str(entry: &str) -> Result<Self, InvalidPlaces> {
        let invalid = || InvalidPlaces(entry.to_owned());
        let (host, port) = target::split_port(entry).map_err(|_| invalid())?;
        let port = match port.ok_or_else(invalid)? {
            "*" => None,
            number => Some(target::port_number(number).map_err(|_| invalid())?),
        };
        Ok(Self { host: target::host(host).map_err(|_| invalid())?, port })
    }
}
