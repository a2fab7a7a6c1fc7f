//! Which addresses may be called: public ones, those of allow-listed networks, and some never.

use crate::place::Place;
use crate::target::Host;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The networks and places that may be called although not public, also by plain HTTP, and our own listeners, which are
/// never called. By default nothing but public addresses may be called.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    networks: Vec<IpNet>,
    places: Vec<Place>,
    own: Vec<SocketAddr>,
}

/// The text is no list of networks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network: write networks as 10.0.0.0/8 or fd12::/16, or single addresses, separated by commas")]
pub struct InvalidNetworks(String);

/// How a target calls: what is usual is allowed to public addresses, anything else only inside an allow-listed network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// HTTPS on port 443 or 8443.
    Usual,
    /// Plain HTTP, or another port.
    Unusual,
}

/// Why an address may not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("stands for another address")]
    Embedding,
    #[error("is reserved and never called")]
    Reserved,
    #[error("is an address of this service itself")]
    Own,
    #[error("is not a public address")]
    NotPublic,
    #[error("may only be called by https on port 443 or 8443")]
    Unusual,
}

impl Allowed {
    /// What may be called beyond public addresses, and the addresses that this process listens on itself.
    #[must_use]
    pub fn new(networks: Vec<IpNet>, own: Vec<SocketAddr>) -> Self {
        Self { networks, places: Vec::new(), own }
    }

    /// The same with single places instead of networks.
    #[must_use]
    pub fn places(places: Vec<Place>, own: Vec<SocketAddr>) -> Self {
        Self { networks: Vec::new(), places, own }
    }

    /// Reads networks separated by commas; a bare address is a network of one, nothing at all is no network.
    ///
    /// # Errors
    /// An entry is no network, or has bits set beyond its prefix.
    pub fn parse_networks(text: &str) -> Result<Vec<IpNet>, InvalidNetworks> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        text.split(',').map(|entry| network(entry.trim()).ok_or_else(|| InvalidNetworks(entry.into()))).collect()
    }

    /// Whether any address at all may be called in this manner.
    pub(crate) fn permits(&self, manner: Manner) -> bool {
        match manner {
            Manner::Usual => true,
            Manner::Unusual => !(self.networks.is_empty() && self.places.is_empty()),
        }
    }

    /// Whether this address, at which this host was found, may be called on this port in this manner.
    pub(crate) fn judge(&self, host: &Host, address: IpAddr, port: u16, manner: Manner) -> Result<(), Unfit> {
        // The order matters: what comes before the lists is refused whatever they contain.
        if embeds_another(address) {
            Err(Unfit::Embedding)
        } else if is_reserved(address) {
            Err(Unfit::Reserved)
        } else if self.is_own(address, port) {
            Err(Unfit::Own)
        } else if self.lists(host, address, port) {
            Ok(())
        } else if !is_public(address) {
            Err(Unfit::NotPublic)
        } else if manner == Manner::Unusual {
            Err(Unfit::Unusual)
        } else {
            Ok(())
        }
    }

    fn lists(&self, host: &Host, address: IpAddr, port: u16) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
            || self.places.iter().any(|place| place.covers(host, address, port))
    }

    fn is_own(&self, address: IpAddr, port: u16) -> bool {
        self.own.iter().filter(|own| own.port() == port).any(|own| {
            let listening = own.ip().to_canonical();
            listening == address || (listening.is_unspecified() && is_of_this_machine(address))
        })
    }
}

fn network(entry: &str) -> Option<IpNet> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some(address.into());
    }
    entry.parse::<IpNet>().ok().filter(|network| network.addr() == network.network())
}

fn is_of_this_machine(address: IpAddr) -> bool {
    // A system lets a socket be bound to its own addresses only; nothing is sent.
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

/// Spellings of an IPv4 address as an IPv6 one, which some gateway or system would call instead.
fn embeds_another(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(Ipv6Addr::LOCALHOST | Ipv6Addr::UNSPECIFIED) => false,
        IpAddr::V6(address) => EMBEDDING.iter().any(|network| network.contains(&address)) || is_isatap(address),
    }
}

fn is_isatap(address: Ipv6Addr) -> bool {
    let [_, _, _, _, flags, kind, _, _] = address.segments();
    kind == 0x5efe && matches!(flags, 0 | 0x0200)
}

/// Of the machine, the link or many: metadata services and what is no single receiver.
fn is_reserved(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => RESERVED_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => RESERVED_V6.iter().any(|network| network.contains(&address)),
    }
}

/// Globally routable unicast, by the registries of special-purpose addresses (RFC 6890 and its successors).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|network| network.contains(&address))
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// A network by the first three groups of its address.
const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// A network by the fifth and sixth group of its address.
const fn v6_tail(e: u16, f: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, e, f, 0, 0), prefix)
}

const EMBEDDING: [Ipv6Net; 7] = [
    v6_tail(0, 0, 96),       // IPv4-compatible
    v6_tail(0, 0xffff, 96),  // IPv4-mapped
    v6_tail(0xffff, 0, 96),  // IPv4-translated
    v6(0x64, 0xff9b, 0, 96), // NAT64
    v6(0x64, 0xff9b, 1, 48), // NAT64 of a local network
    v6(0x2001, 0, 0, 32),    // Teredo
    v6(0x2002, 0, 0, 16),    // 6to4
];

const RESERVED_V4: [Ipv4Net; 4] = [
    v4(0, 0, 0, 0, 8),          // this network
    v4(169, 254, 0, 0, 16),     // link-local; instance and task metadata
    v4(224, 0, 0, 0, 4),        // multicast
    v4(255, 255, 255, 255, 32), // broadcast
];

const RESERVED_V6: [Ipv6Net; 4] = [
    v6(0, 0, 0, 128),         // unspecified
    v6(0xfd00, 0xec2, 0, 32), // instance metadata
    v6(0xfe80, 0, 0, 10),     // link-local
    v6(0xff00, 0, 0, 8),      // multicast
];

const SPECIAL_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 0, 8),       // this network
    v4(10, 0, 0, 0, 8),      // private
    v4(100, 64, 0, 0, 10),   // shared by carriers
    v4(127, 0, 0, 0, 8),     // loopback
    v4(169, 254, 0, 0, 16),  // link-local
    v4(172, 16, 0, 0, 12),   // private
    v4(192, 0, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 88, 99, 0, 24),  // 6to4 relays
    v4(192, 168, 0, 0, 16),  // private
    v4(198, 18, 0, 0, 15),   // benchmarks
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 4),     // multicast
    v4(240, 0, 0, 0, 4),     // reserved, broadcast
];

const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

const SPECIAL_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 0, 23),     // protocol assignments
    v6(0x2001, 0xdb8, 0, 32), // documentation
    v6(0x2002, 0, 0, 16),     // 6to4
    v6(0x3fff, 0, 0, 20),     // documentation
];
