//! How the name of a host becomes addresses.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::lookup_host;

/// Who is asked for the addresses of a name; never for those of a literal address.
#[derive(Clone)]
pub enum Resolver {
    /// The system's resolver.
    System,
    /// A function, for tests: it may give another answer each time.
    Table(Arc<Table>),
}

/// The addresses of a name, or why it has none.
type Table = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

impl Resolver {
    pub(crate) async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System => Ok(lookup_host((name, 0)).await?.map(|answer| answer.ip()).collect()),
            Self::Table(answers) => answers(name),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::System => "System",
            Self::Table(_) => "Table",
        })
    }
}
