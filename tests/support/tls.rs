//! Certificates of the tests' own, made with openssl, and clients that trust them and nobody else.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::connect::Io;
use super::{SOON, TempDir, within};

/// A certificate for `localhost` and 127.0.0.1, signed by itself, and its key. Dropping it removes the files.
pub struct Certificate {
    dir: TempDir,
}

impl Certificate {
    /// A new one.
    pub async fn make() -> Self {
        let certificate = Self {
            dir: TempDir::new("certificate"),
        };
        certificate.renew().await;
        certificate
    }

    /// Another one in the same files.
    pub async fn renew(&self) {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", "piazza.key", "-out", "piazza.crt"])
            .current_dir(self.dir.path())
            .output();
        let made = within(SOON, "openssl", made).await;
        let made = made.expect("openssl is installed");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
    }

    /// The path of the certificate.
    pub fn file(&self) -> String {
        self.path("piazza.crt")
    }

    /// The path of its key.
    pub fn key(&self) -> String {
        self.path("piazza.key")
    }

    /// A path beside both.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// The certificate itself.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.file()).expect("a certificate")
    }

    /// A client that trusts this one, as it is now.
    pub fn trusted(&self) -> Trust {
        self.trusted_with(tokio_rustls::rustls::DEFAULT_VERSIONS, &[])
    }

    /// The same with these versions of TLS and these protocols on offer (ALPN).
    pub fn trusted_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).expect("a root");
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| (*name).into()).collect();
        Trust(TlsConnector::from(Arc::new(config)))
    }
}

/// A TLS client that trusts one certificate.
#[derive(Clone)]
pub struct Trust(TlsConnector);

impl Trust {
    /// TLS over this connection.
    pub async fn over(&self, io: impl Io + 'static) -> Box<dyn Io> {
        let stream = within(SOON, "the TLS handshake", self.try_over(io)).await;
        Box::new(stream.expect("TLS"))
    }

    /// The same where it may fail; bounded by the caller.
    pub async fn try_over<S: Io + 'static>(
        &self,
        io: S,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<S>> {
        let name = ServerName::try_from("localhost").expect("a name");
        self.0.connect(name, io).await
    }

    /// TLS with whoever listens there.
    pub async fn to(&self, addr: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
        within(SOON, "TLS", async {
            let tcp = TcpStream::connect(addr).await.expect("a TCP connection");
            tcp.set_nodelay(true).expect("nodelay");
            self.try_over(tcp).await.expect("TLS")
        })
        .await
    }
}
