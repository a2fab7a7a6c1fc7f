//! A receiver that says what it is told to say and counts who came, and the client under test.

use bytes::Bytes;
use countersign_outbound::{Allowed, Attempted, Outbound, Place, Resolver};
use http::HeaderMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Long enough for an attempt that is answered.
pub(crate) const AMPLE: Duration = Duration::from_secs(30);
/// For an attempt that no one answers completely.
pub(crate) const BRIEF: Duration = Duration::from_millis(300);

/// What a receiver does once it has read a request.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    /// Closes before a request is read.
    Leave,
    /// Says this and closes.
    Say(Vec<u8>),
    /// Says this, then nothing more, and keeps the connection open.
    Hang(Vec<u8>),
    /// Says the first, then the second again and again.
    Repeat(Vec<u8>, Vec<u8>),
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    pub(crate) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (counted, noted) = (Arc::clone(&connections), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(play(stream, script.clone(), Arc::clone(&noted)));
            }
        });
        Self { address, connections, requests }
    }

    pub(crate) async fn saying(answer: &str) -> Self {
        Self::start(Script::Say(answer.into())).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn play(mut stream: TcpStream, script: Script, requests: Arc<Mutex<Vec<String>>>) {
    if matches!(script, Script::Leave) {
        return;
    }
    let Ok(request) = read_request(&mut stream).await else { return };
    requests.lock().unwrap().push(request);
    // Whoever has heard enough closes; that is none of the receiver's errors.
    let _ = match script {
        Script::Leave => Ok(()),
        Script::Say(words) => stream.write_all(&words).await,
        Script::Hang(words) => {
            let said = stream.write_all(&words).await;
            let _ = stream.read(&mut [0; 1]).await;
            said
        }
        Script::Repeat(first, again) => repeat(&mut stream, &first, &again).await,
    };
    let _ = stream.shutdown().await;
}

async fn repeat(stream: &mut TcpStream, first: &[u8], again: &[u8]) -> io::Result<()> {
    stream.write_all(first).await?;
    loop {
        stream.write_all(again).await?;
        tokio::task::yield_now().await;
    }
}

/// Head and body of a request, as it was sent.
pub(crate) async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<String> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Ok(text.into_owned());
            }
        }
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A resolver that knows one answer to every question, and how often it was asked.
pub(crate) fn answering(addresses: &[IpAddr]) -> (Resolver, Arc<AtomicUsize>) {
    let addresses = addresses.to_vec();
    changing(move |_| addresses.clone())
}

/// A name that a resolver made by [`by_name`] resolves to these addresses.
pub(crate) fn named(addresses: &[IpAddr]) -> String {
    let label = |address: &IpAddr| match address {
        IpAddr::V4(address) => format!("a{:08x}.", address.to_bits()),
        IpAddr::V6(address) => format!("a{:032x}.", address.to_bits()),
    };
    addresses.iter().map(label).chain(["example".to_owned()]).collect()
}

/// A resolver that reads the answer in the name, and how often it was asked.
pub(crate) fn by_name() -> (Resolver, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let address = |label: &str| -> Option<IpAddr> {
        match label.strip_prefix('a')? {
            short if short.len() == 8 => Some(Ipv4Addr::from_bits(u32::from_str_radix(short, 16).ok()?).into()),
            long => Some(Ipv6Addr::from_bits(u128::from_str_radix(long, 16).ok()?).into()),
        }
    };
    let table = move |name: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(name.split('.').filter_map(address).collect())
    };
    (Resolver::Table(Arc::new(table)), asked)
}

/// A resolver whose answer depends on how often it was asked before.
pub(crate) fn changing(answers: impl Fn(usize) -> Vec<IpAddr> + Send + Sync + 'static) -> (Resolver, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    (Resolver::Table(Arc::new(move |_| Ok(answers(count.fetch_add(1, Ordering::SeqCst))))), asked)
}

pub(crate) fn client(networks: &str, own: &[SocketAddr], resolver: Resolver) -> Outbound {
    let networks = Allowed::parse_networks(networks).unwrap();
    Outbound::new(Allowed::new(networks, own.to_vec()), resolver).unwrap()
}

/// A client that may call these places although they are not public.
pub(crate) fn client_for(places: &str, own: &[SocketAddr], resolver: Resolver) -> Outbound {
    let places = Place::parse_list(places).unwrap();
    Outbound::new(Allowed::places(places, own.to_vec()), resolver).unwrap()
}

/// A client for receivers on this machine, whose every name is this machine's.
pub(crate) fn local_client() -> Outbound {
    client("127.0.0.0/8", &[], answering(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]).0)
}

pub(crate) async fn post(client: &Outbound, url: &str, within: Duration) -> Attempted {
    client.post(url, HeaderMap::new(), Bytes::from_static(b"{}"), within).await
}
