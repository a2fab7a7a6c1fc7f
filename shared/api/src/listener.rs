//! A local listener: serves a router until it is told to stop, then lets what is in flight end.

use axum::Router;
use axum::serve::ListenerExt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How long requests in flight may take once the process is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// A bound socket that does not serve yet, so that its port is known before its router is made.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Binds the address; port 0 picks one.
    ///
    /// # Errors
    /// The address is taken or not this machine's.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves until `stop` says true, then at most 10 s longer.
    ///
    /// # Errors
    /// The socket fails.
    pub async fn serve(self, router: Router, stop: watch::Receiver<bool>) -> io::Result<()> {
        let listener = self.0.tap_io(|connection| {
            // Small answers must not wait for more; a socket that refuses is only slower.
            let _ = connection.set_nodelay(true);
        });
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let overdue = {
            let stop = stop.clone();
            async {
                stopped(stop).await;
                tokio::time::sleep(DRAIN).await;
            }
        };
        tokio::select! {
            served = axum::serve(listener, service).with_graceful_shutdown(stopped(stop)) => served,
            () = overdue => Ok(()),
        }
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that nobody is left who could say it: stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Ready when the process is asked to stop: Ctrl-C or SIGTERM.
///
/// # Errors
/// The system does not let us listen for signals.
pub async fn shut_down_signal() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
