//! Connections through the egress proxy, by `CONNECT` (RFC 9110, 9.3.6). The proxy resolves names; it has to enforce the
//! rules for their addresses.

use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hookwright_core::destination::egress::ProxySettings;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

use crate::http::dial::set_options;
use crate::http::failure::ProxyFailure;

/// The most bytes of the proxy's answer.
const MOST: usize = 8 << 10;

/// The egress proxy.
pub(crate) struct Proxy {
    host: Host,
    port: u16,
    /// The name in the proxy's certificate, if it is reached over TLS.
    tls: Option<ServerName<'static>>,
    credentials_file: Option<PathBuf>,
}

/// A connection to the proxy.
pub(crate) enum Tunnel {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Proxy {
    pub(crate) fn new(settings: &ProxySettings) -> Result<Self, ProxyFailure> {
        let host = settings.url.host().map(|host| host.to_owned()).ok_or(ProxyFailure::Nameless)?;
        let tls = match (&host, settings.url.scheme()) {
            (_, "http") => None,
            (Host::Domain(name), _) => Some(ServerName::try_from(name.clone()).map_err(|_| ProxyFailure::Nameless)?),
            (Host::Ipv4(address), _) => Some(ServerName::from(std::net::IpAddr::from(*address))),
            (Host::Ipv6(address), _) => Some(ServerName::from(std::net::IpAddr::from(*address))),
        };
        let port = settings.url.port_or_known_default().unwrap_or(443);
        Ok(Self { host, port, tls, credentials_file: settings.credentials_file.clone() })
    }

    /// Has the proxy connect to the host, which is a name or, in brackets if it is IPv6, an address.
    pub(crate) async fn connect(&self, tls: &TlsConnector, host: &str, port: u16) -> Result<Tunnel, ProxyFailure> {
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n");
        if let Some(file) = &self.credentials_file {
            // Read anew each time: it may change without a restart.
            let credentials = tokio::fs::read_to_string(file).await.map_err(ProxyFailure::Credentials)?;
            let credentials = BASE64_STANDARD.encode(credentials.trim());
            request.push_str(&format!("proxy-authorization: Basic {credentials}\r\n"));
        }
        request.push_str("\r\n");
        let tcp = match &self.host {
            Host::Domain(name) => TcpStream::connect((name.as_str(), self.port)).await,
            Host::Ipv4(address) => TcpStream::connect((*address, self.port)).await,
            Host::Ipv6(address) => TcpStream::connect((*address, self.port)).await,
        };
        let mut tcp = tcp.map_err(ProxyFailure::Unreachable)?;
        set_options(&tcp).map_err(ProxyFailure::Unreachable)?;
        match &self.tls {
            None => {
                ask(&mut tcp, &request).await?;
                Ok(Tunnel::Plain(tcp))
            }
            Some(name) => {
                let stream = tls.connect(name.clone(), tcp).await.map_err(ProxyFailure::Unreachable)?;
                let mut stream = Box::new(stream);
                ask(&mut stream, &request).await?;
                Ok(Tunnel::Tls(stream))
            }
        }
    }
}

/// Sends the request, and reads the head of the answer and nothing beyond it.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> Result<(), ProxyFailure> {
    let sent = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await
    };
    sent.await.map_err(ProxyFailure::Unreachable)?;
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MOST {
            return Err(ProxyFailure::Unreadable);
        }
        head.push(stream.read_u8().await.map_err(ProxyFailure::Unreachable)?);
    }
    match status(&head) {
        Some(status) if (200..300).contains(&status) => Ok(()),
        Some(status) => Err(ProxyFailure::Refused(status)),
        None => Err(ProxyFailure::Unreadable),
    }
}

/// The status of a status line.
fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let code = rest.split(' ').next()?;
    (version.starts_with("HTTP/1.") && code.len() == 3).then(|| code.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        for (line, want) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Some(200)),
            ("HTTP/1.0 200\r\nx: y\r\n\r\n", Some(200)),
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Some(407)),
            ("HTTP/2 200\r\n\r\n", None),
            ("SSH-2.0-x\r\n\r\n", None),
            ("HTTP/1.1 2000\r\n\r\n", None),
        ] {
            assert_eq!(status(line.as_bytes()), want, "{line}");
        }
    }
}
