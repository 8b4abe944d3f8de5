//! Plain TCP.

use std::io;
use std::net::SocketAddr;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

use super::{ListenError, pause};

/// Connections to a TCP port.
#[derive(Debug)]
pub struct Tcp {
    listener: TcpListener,
}

/// Listens on a TCP port. Port 0 takes a free one, which [`local_addr`](Listener::local_addr) then tells.
pub async fn tcp(addr: SocketAddr) -> Result<Tcp, ListenError> {
    let listener = TcpListener::bind(addr).await.map_err(|source| ListenError::Tcp { addr, source })?;
    Ok(Tcp { listener })
}

impl Listener for Tcp {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Events are small and each one is waited for; a stream that cannot be told is about to fail.
                    let _ = stream.set_nodelay(true);
                    return (stream, peer);
                }
                Err(error) => pause(&error).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
