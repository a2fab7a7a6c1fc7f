//! What the local management listener refuses: whatever a browser or a webhook could send to it.

use crate::problem::Problem;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri, header};
use std::net::IpAddr;

/// Headers that our own webhooks carry: a webhook must never reach the management plane.
const OUR_WEBHOOKS: [&str; 2] = ["x-approval-event-id", "webhook-id"];

/// Refuses a request that does not come from a program on this machine which means this listener.
///
/// # Errors
/// 403 with the reason.
pub(crate) fn check(uri: &Uri, headers: &HeaderMap, port: u16) -> Result<(), Problem> {
    let refuse = |message: &str| Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", message));
    if headers.contains_key(header::ORIGIN) {
        return refuse("the management plane takes no requests from web pages (Origin)");
    }
    if headers.get_all("sec-fetch-site").iter().any(|site| site != "none") {
        return refuse("the management plane takes no requests from web pages (Sec-Fetch-Site)");
    }
    if OUR_WEBHOOKS.iter().any(|name| headers.contains_key(*name)) {
        return refuse("the management plane takes no webhooks");
    }
    let mut hosts = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.parse::<Authority>().is_ok_and(|host| is_ours(&host, port)),
        // HTTP/2 names the host in its target; it is judged below.
        (None, _) => uri.authority().is_some(),
        (Some(_), Some(_)) => false,
    };
    if !named || uri.authority().is_some_and(|authority| !is_ours(authority, port)) {
        return refuse("the Host must be localhost or a loopback address, with this listener's port");
    }
    Ok(())
}

/// Whether a host is a loopback literal or `localhost`, with this port. Any other name could be made to resolve here.
fn is_ours(host: &Authority, port: u16) -> bool {
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    let loopback = name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    // A client leaves out the port that its scheme implies.
    loopback && host.port_u16().unwrap_or(80) == port && !host.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(headers: &[(&'static str, &str)]) -> Option<u16> {
        let map = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        check(&Uri::from_static("/tokens/override"), &map, 8001).err().map(|problem| problem.status.as_u16())
    }

    #[test]
    fn loopback_hosts_with_the_listeners_port_are_let_through() {
        for host in ["127.0.0.1:8001", "localhost:8001", "LOCALHOST:8001", "[::1]:8001", "127.8.9.10:8001"] {
            assert_eq!(status(&[("host", host)]), None, "{host}");
        }
        assert_eq!(status(&[("host", "localhost:8001"), ("sec-fetch-site", "none")]), None);
    }

    #[test]
    fn every_other_host_is_refused() {
        for host in [
            "",
            "localhost",
            "localhost:8080",
            "127.0.0.1",
            "example.com:8001",
            "localhost.example.com:8001",
            "127.0.0.1.nip.io:8001",
            "10.0.0.1:8001",
            "2130706433:8001",
            "0.0.0.0:8001",
            "[::]:8001",
            "u@localhost:8001",
            "[::ffff:10.0.0.1]:8001",
            "localhost:8001, localhost:8001",
        ] {
            assert_eq!(status(&[("host", host)]), Some(403), "{host}");
        }
        assert_eq!(status(&[]), Some(403));
        assert_eq!(status(&[("host", "localhost:8001"), ("host", "localhost:8001")]), Some(403));
    }

    #[test]
    fn web_pages_and_webhooks_are_refused() {
        for (name, value) in [
            ("origin", "http://localhost:8001"),
            ("origin", "null"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", ""),
            ("x-approval-event-id", "e"),
            ("webhook-id", "w"),
        ] {
            assert_eq!(status(&[("host", "localhost:8001"), (name, value)]), Some(403), "{name}: {value}");
        }
    }

    #[test]
    fn an_absolute_target_must_name_this_listener_too() {
        let headers = HeaderMap::from_iter([(header::HOST, "localhost:8001".parse().unwrap())]);
        assert!(check(&Uri::from_static("http://localhost:8001/health"), &headers, 8001).is_ok());
        assert!(check(&Uri::from_static("http://example.com/health"), &headers, 8001).is_err());
    }
}
