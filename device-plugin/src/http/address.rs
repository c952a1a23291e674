//! Where HTTP is answered: `host:port`, or `:port` for every address of the machine.

use std::io;
use std::net::{AddrParseError, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::num::ParseIntError;
use std::str::FromStr;

use anyhow::{Context, Result};

/// An address to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpAddress {
    /// Every address, of IPv6 and IPv4 as the machine has them.
    All(u16),
    /// This one.
    One(SocketAddr),
}

/// Why a text is none.
#[derive(Debug, thiserror::Error)]
pub enum BadAddress {
    /// What stands behind the colon is no port.
    #[error("no port")]
    Port(#[from] ParseIntError),
    /// It is neither `:port` nor an address and a port.
    #[error("neither `:port` nor `address:port`")]
    Address(#[from] AddrParseError),
}

impl FromStr for HttpAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        match text.strip_prefix(':') {
            Some(port) => Ok(Self::All(port.parse()?)),
            None => Ok(Self::One(text.parse()?)),
        }
    }
}

impl HttpAddress {
    /// Listens there.
    pub fn listen(self) -> Result<TcpListener> {
        let (listener, address) = match self {
            Self::One(address) => (TcpListener::bind(address), address),
            Self::All(port) => {
                let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
                match TcpListener::bind(all) {
                    // A machine without IPv6 has no such address.
                    Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                        let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
                        (TcpListener::bind(all), all)
                    }
                    listener => (listener, all),
                }
            }
        };
        listener.with_context(|| format!("listen at {address} for who reads the metrics"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_every_address() {
        assert_eq!(":9117".parse::<HttpAddress>().unwrap(), HttpAddress::All(9117));
        let one: HttpAddress = "127.0.0.1:9117".parse().unwrap();
        assert_eq!(one, HttpAddress::One(SocketAddr::from(([127, 0, 0, 1], 9117))));
        for wrong in ["", ":", "9117", ":metrics", ":70000", "node:9117"] {
            wrong.parse::<HttpAddress>().unwrap_err();
        }
    }

    #[test]
    fn every_address_has_that_of_ipv4() {
        let listener = HttpAddress::All(0).listen().unwrap();
        let port = listener.local_addr().unwrap().port();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
