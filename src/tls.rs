//! TLS on the node's own port: the certificate and the key from their files, checked before they are used,
//! and read again when the node is told to. A handshake takes what was read last; a connection that is open
//! lives on with what it began with. TLS 1.2 and 1.3, HTTP/1.1 alone (a WebSocket is no HTTP/2).

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, ServerConfig};
use tokio_rustls::server::TlsStream;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where the certificate and its key are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The certificate in PEM, then those that lead from it towards a root.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

/// Which file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// The certificate's.
    Certificate,
    /// The key's.
    Key,
}

/// Why the files can't be used. Displays what is wrong with the one it names, and nothing that a key
/// file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unusable {
    /// The file that is wrong.
    pub which: Which,
    problem: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Unusable {}

impl TlsFiles {
    /// Reads both and checks that they belong together.
    ///
    /// # Errors
    /// A file that can't be read, has over 1 MiB, or doesn't hold what it should; a key of another
    /// certificate.
    pub fn check(&self) -> Result<(), Unusable> {
        self.load().map(drop)
    }

    fn load(&self) -> Result<ServerConfig, Unusable> {
        let certificate = |problem: String| Unusable {
            which: Which::Certificate,
            problem,
        };
        let key = |problem: String| Unusable {
            which: Which::Key,
            problem,
        };
        let text = read(&self.certificate).map_err(|error| certificate(error.to_string()))?;
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.map_err(|_| certificate("it is no PEM file".to_owned()))?;
        if chain.is_empty() {
            return Err(certificate("it holds no certificate in PEM".to_owned()));
        }
        let text = read(&self.key).map_err(|error| key(error.to_string()))?;
        let private = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| key("it holds no private key in PEM without a passphrase".to_owned()))?;
        configure(chain, private).map_err(|error| match error {
            Error::InvalidCertificate(_) => certificate(format!("a certificate is bad: {error}")),
            Error::InconsistentKeys(_) => key("it isn't the certificate's key".to_owned()),
            _ => key(format!("the key can't be used: {error}")),
        })
    }

    fn of(&self, which: Which) -> &Path {
        match which {
            Which::Certificate => &self.certificate,
            Which::Key => &self.key,
        }
    }
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Who comes back goes on with a ticket that the server needn't remember: thousands come back at once when
    // a node goes. Tickets end with the files they were made under, so that a new certificate is shown to
    // everyone.
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: a pipe's other end may never come.
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(io::Error::other("it is no file of at most 1 MiB"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// TLS for the sockets of this node.
pub struct Tls {
    files: TlsFiles,
    /// What the next handshake takes.
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// With what the files hold.
    ///
    /// # Errors
    /// As [`TlsFiles::check`].
    pub fn new(files: TlsFiles) -> Result<Tls, Unusable> {
        let current = RwLock::new(Arc::new(files.load()?));
        Ok(Tls { files, current })
    }

    /// The handshake; the caller bounds its time.
    ///
    /// # Errors
    /// What isn't TLS, or has nothing in common with this side.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.current.read();
        let config = config.unwrap_or_else(PoisonError::into_inner).clone();
        TlsAcceptor::from(config).accept(socket).await
    }

    /// Reads the files again. Where they can't be used the old ones go on, and the log says why. Blocks for
    /// as long as the files take.
    pub fn reload(&self) {
        match self.files.load() {
            Ok(config) => {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(config);
                tracing::info!("the certificate was read again: new connections get it");
            }
            Err(error) => {
                let file = self.files.of(error.which).display();
                tracing::error!(%file, %error, "the certificate is still the old one: a file can't be used");
            }
        }
    }
}
