//! What an allow-list opens, and our own listeners, which it does not.

use crate::receiver::{AMPLE, Receiver, answering, client, client_for, post};
use countersign_outbound::{Allowed, Place};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const DONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn networks(text: &str) -> Vec<String> {
    Allowed::parse_networks(text).unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn networks_are_read_from_a_list_with_commas() {
    assert_eq!(networks(""), [""; 0]);
    assert_eq!(networks("  "), [""; 0]);
    assert_eq!(networks("127.0.0.0/8"), ["127.0.0.0/8"]);
    assert_eq!(
        networks(" 10.0.0.0/8 ,fd12::/16, 192.168.1.7,::1"),
        ["10.0.0.0/8", "fd12::/16", "192.168.1.7/32", "::1/128"]
    );
    assert_eq!(networks("0.0.0.0/0,::/0"), ["0.0.0.0/0", "::/0"]);
}

#[test]
fn what_is_no_network_is_an_error_that_names_it() {
    for text in [
        ",",
        "10.0.0.0/8,",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "10/8",
        "localhost",
        "127.1",
        "::1/129",
        "10.0.0.0/8 ::1",
        "*",
    ] {
        assert!(Allowed::parse_networks(text).is_err(), "{text:?}");
    }
    let message = Allowed::parse_networks("::1,10.0.0.1/8").unwrap_err().to_string();
    assert!(message.starts_with("\"10.0.0.1/8\" is not a network: "), "{message}");
}

#[tokio::test]
async fn plain_http_and_any_port_are_open_inside_an_allowed_network_only() {
    let receiver = Receiver::saying(DONE).await;
    let local = client("127.0.0.0/8", &[], answering(&[HERE]).0);
    for host in ["127.0.0.1", "localhost", "LocalHost", "hooks.localhost", "hooks.example"] {
        let url = format!("http://{host}:{}/hook", receiver.port());
        assert_eq!(local.check(&url).await, Ok(()));
        let attempted = post(&local, &url, AMPLE).await;
        assert!(attempted.succeeded(), "{url}: {attempted:?}");
    }
    assert_eq!(receiver.connections(), 5);

    let public = client("127.0.0.0/8", &[], answering(&["1.1.1.1".parse().unwrap()]).0);
    for url in ["http://hooks.example/", "https://hooks.example:444/", "http://1.1.1.1/", "https://1.1.1.1:80/"] {
        assert!(public.check(url).await.unwrap_err().to_string().contains("https on port 443 or 8443"), "{url}");
    }
    assert_eq!(public.check("https://hooks.example:8443/").await, Ok(()));
    let mixed = client("127.0.0.0/8", &[], answering(&[HERE, "1.1.1.1".parse().unwrap()]).0);
    assert!(mixed.check("http://hooks.example/").await.is_err());
    assert_eq!(mixed.check("https://hooks.example/").await, Ok(()));
    assert!(client("127.0.0.0/8", &[], answering(&[]).0).check("http://10.0.0.1/").await.is_err());
}

#[tokio::test]
async fn localhost_is_called_by_the_family_that_is_allowed() {
    let receiver = Receiver::saying(DONE).await;
    let localhost = format!("http://localhost:{}/", receiver.port());
    for answers in [vec![HERE_V6, HERE], vec![HERE, HERE_V6]] {
        let client = client("127.0.0.0/8", &[], answering(&answers).0);
        assert_eq!(client.check(&localhost).await, Ok(()));
        assert!(post(&client, &localhost, AMPLE).await.succeeded());
        for other in ["hooks.localhost", "hooks.example"] {
            let url = localhost.replace("localhost", other);
            assert!(client.check(&url).await.is_err(), "{url}");
            assert!(!post(&client, &url, AMPLE).await.succeeded(), "{url}");
        }
    }
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn localhost_that_is_not_only_this_machine_is_refused() {
    let receiver = Receiver::saying(DONE).await;
    let localhost = format!("http://localhost:{}/", receiver.port());
    for other in ["10.0.0.1", "1.1.1.1", "::ffff:127.0.0.1", "0.0.0.0"] {
        let client = client("127.0.0.0/8", &[], answering(&[HERE, other.parse().unwrap()]).0);
        assert!(client.check(&localhost).await.is_err(), "{other}");
        assert!(!post(&client, &localhost, AMPLE).await.succeeded(), "{other}");
    }
    assert!(client("", &[], answering(&[HERE, HERE_V6]).0).check("https://localhost/").await.is_err());
    assert_eq!(receiver.connections(), 0);
}

/// Refused under any host that leads to the address; another port is let through.
async fn is_our_own(own: SocketAddr, receiver: &Receiver, hosts: &[&str], answers: &[IpAddr]) {
    let client = client("0.0.0.0/0,::/0", &[own], answering(answers).0);
    for host in hosts {
        let url = format!("http://{host}:{}/hook", receiver.port());
        let refused = client.check(&url).await.unwrap_err().to_string();
        assert!(refused.ends_with("is an address of this service itself"), "{url}: {refused}");
        assert_eq!(post(&client, &url, AMPLE).await.error, Some(refused), "{url}");
        assert_eq!(client.check(&format!("http://{host}:1/hook")).await, Ok(()), "{url}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn our_own_listener_is_never_called() {
    let receiver = Receiver::saying(DONE).await;
    is_our_own(receiver.address, &receiver, &["127.0.0.1", "hooks.example", "localhost"], &[HERE]).await;
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), receiver.port());
    is_our_own(mapped, &receiver, &["127.0.0.1", "hooks.example"], &[HERE]).await;
    let other = ["10.0.0.1".parse().unwrap(), HERE];
    is_our_own(receiver.address, &receiver, &["hooks.example"], &other).await;
}

#[tokio::test]
async fn a_listener_on_every_address_is_never_called_by_any_of_this_machine() {
    let receiver = Receiver::saying(DONE).await;
    for unspecified in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let own = SocketAddr::new(unspecified, receiver.port());
        let hosts = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "[::1]", "localhost", "hooks.example"];
        is_our_own(own, &receiver, &hosts, &[HERE, HERE_V6]).await;
        // Another machine's.
        let client = client("10.255.255.254", &[own], answering(&[]).0);
        assert_eq!(client.check(&format!("http://10.255.255.254:{}/", receiver.port())).await, Ok(()));
    }
}

#[test]
fn places_are_read_from_a_list_with_commas() {
    assert_eq!(Place::parse_list(" "), Ok(Vec::new()));
    assert_eq!(Place::parse_list("a.internal:80, 10.0.0.7:* ,[::1]:443").map(|places| places.len()), Ok(3));
    for text in [
        ",",
        "a.internal",
        "a.internal:80,",
        "a.internal:",
        "a.internal:0",
        "a.internal:080",
        "a.internal:65536",
        "a.internal:http",
        "a.internal:80/path",
        "a.internal:80:80",
        "http://a.internal:80",
        "*:80",
        "*",
        ":80",
        "10.0.0.0/8:80",
        "10.0.1:80",
        "0x7f000001:80",
        "::1:80",
        "[::1]",
        "[::01]:80",
        "a.internal:80 b.internal:80",
    ] {
        assert!(Place::parse_list(text).is_err(), "{text:?}");
    }
    let message = Place::parse_list("10.0.0.7:1,internal").unwrap_err().to_string();
    assert!(message.starts_with("\"internal\" is not a host with a port: "), "{message}");
}

#[tokio::test]
async fn a_place_opens_one_port_of_one_host() {
    let (receiver, other) = (Receiver::saying(DONE).await, Receiver::saying(DONE).await);
    let by_address = format!("127.0.0.1:{}", receiver.port());
    let by_name = format!("Resolver.internal:{}", receiver.port());
    for (places, open, closed) in [
        (&by_address, &["127.0.0.1", "localhost", "resolver.internal"][..], &["127.0.0.2", "[::1]"][..]),
        (&by_name, &["resolver.internal", "RESOLVER.internal"], &["127.0.0.1", "localhost", "other.internal"]),
    ] {
        let client = client_for(places, &[], answering(&[HERE]).0);
        for host in open {
            let url = format!("http://{host}:{}/", receiver.port());
            assert_eq!(client.check(&url).await, Ok(()), "{url}");
            assert!(post(&client, &url, AMPLE).await.succeeded(), "{url}");
            let url = format!("http://{host}:{}/", other.port());
            assert!(client.check(&url).await.is_err() && !post(&client, &url, AMPLE).await.succeeded(), "{url}");
        }
        for host in closed {
            let url = format!("http://{host}:{}/", receiver.port());
            assert!(client.check(&url).await.is_err() && !post(&client, &url, AMPLE).await.succeeded(), "{url}");
        }
        for public in ["http://1.1.1.1/", "https://1.1.1.1:444/"] {
            assert!(client.check(public).await.is_err(), "{public}");
        }
        assert_eq!(client.check("https://1.1.1.1/").await, Ok(()));
    }
    assert_eq!((receiver.connections(), other.connections()), (5, 0));
}

#[tokio::test]
async fn a_place_on_any_port_opens_all_of_them_but_our_own() {
    let (receiver, own) = (Receiver::saying(DONE).await, Receiver::saying(DONE).await);
    let client = client_for("127.0.0.1:*", &[own.address], answering(&[HERE]).0);
    assert!(post(&client, &receiver.url(), AMPLE).await.succeeded());
    assert!(!post(&client, &own.url(), AMPLE).await.succeeded());
    assert_eq!((receiver.connections(), own.connections()), (1, 0));
}

#[tokio::test]
async fn no_place_opens_what_is_never_called() {
    for address in ["169.254.169.254", "0.0.0.0", "255.255.255.255", "fd00:ec2::254", "fe80::1", "::ffff:127.0.0.1"] {
        let address: IpAddr = address.parse().unwrap();
        let literal = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        let client = client_for(&format!("{literal}:80,resolver.internal:80"), &[], answering(&[address]).0);
        for host in [literal.as_str(), "resolver.internal"] {
            assert!(client.check(&format!("http://{host}/")).await.is_err(), "{host} at {address}");
        }
    }
}
