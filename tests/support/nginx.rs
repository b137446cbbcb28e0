//! A real nginx with `deploy/nginx.conf` itself: only ports, paths and the certificate are others, so
//! that it runs beside anything else and without root.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::connect::Io;
use super::tls::{Certificate, Trust};
use super::{SOON, TempDir, eventually, free_port};

/// A running nginx in front of three nodes. Dropping it ends it.
pub struct Nginx {
    /// Where it takes TLS connections.
    pub addr: SocketAddr,
    /// Where it takes plain HTTP, to send it to TLS.
    pub plain: SocketAddr,
    /// Who trusts its certificate.
    pub trust: Trust,
    child: Child,
    dir: TempDir,
    _certificate: Certificate,
}

impl Nginx {
    /// nginx with these three nodes as its upstream, once it accepts connections.
    pub async fn start(nodes: [u16; 3]) -> Self {
        let dir = TempDir::new("nginx");
        let certificate = Certificate::make().await;
        let (tls_port, plain_port) = (free_port(), free_port());
        let conf = configuration(&dir, &certificate, nodes, tls_port, plain_port);
        std::fs::write(dir.join("nginx.conf"), conf).expect("nginx.conf is written");
        let child = Command::new("nginx")
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .args(["-g", "daemon off;"])
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(dir.join("stderr.log")).expect("a log file"))
            .kill_on_drop(false)
            .spawn()
            .expect("nginx is installed");
        let nginx = Self {
            addr: SocketAddr::from(([127, 0, 0, 1], tls_port)),
            plain: SocketAddr::from(([127, 0, 0, 1], plain_port)),
            trust: certificate.trusted(),
            child,
            dir,
            _certificate: certificate,
        };
        let addr = nginx.addr;
        eventually(SOON, "nginx to accept connections", || async move {
            TcpStream::connect(addr).await.is_ok()
        })
        .await;
        nginx
    }

    /// A TLS connection to it over this TCP connection.
    pub async fn over_tls(&self, tcp: TcpStream) -> Box<dyn Io> {
        self.trust.over(tcp).await
    }

    /// The same where it may fail; bounded by the caller.
    pub async fn try_over_tls(&self, io: impl Io + 'static) -> std::io::Result<Box<dyn Io>> {
        Ok(Box::new(self.trust.try_over(io).await?))
    }

    /// SIGHUP: new workers take over, the old ones keep the connections that they have.
    pub fn reload(&self) {
        let pid = self.child.id().expect("nginx runs");
        let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("signal sent");
    }

    /// All that it has logged anywhere.
    pub fn logs(&self) -> String {
        let files = ["access.log", "error.log", "stderr.log"];
        files
            .map(|file| std::fs::read_to_string(self.dir.join(file)).unwrap_or_default())
            .concat()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- nginx logged:\n{}", self.logs());
        }
        // A master that is killed leaves its workers behind, so it is asked to end, and waited for.
        let Some(pid) = self
            .child
            .id()
            .and_then(|id| rustix::process::Pid::from_raw(id as i32))
        else {
            return;
        };
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let give_up = std::time::Instant::now() + SOON;
        while let Ok(None) = self.child.try_wait() {
            if std::time::Instant::now() > give_up {
                let _ = self.child.start_kill();
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// `deploy/nginx.conf` with other ports and paths.
fn configuration(
    dir: &TempDir,
    certificate: &Certificate,
    nodes: [u16; 3],
    tls_port: u16,
    plain_port: u16,
) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    let swaps = [
        ("127.0.0.1:8081", format!("127.0.0.1:{}", nodes[0])),
        ("127.0.0.1:8082", format!("127.0.0.1:{}", nodes[1])),
        ("127.0.0.1:8083", format!("127.0.0.1:{}", nodes[2])),
        (
            "listen 443 ssl backlog=4096;",
            format!("listen 127.0.0.1:{tls_port} ssl backlog=4096;"),
        ),
        ("listen [::]:443 ssl backlog=4096;", String::new()),
        ("listen 80;", format!("listen 127.0.0.1:{plain_port};")),
        ("listen [::]:80;", String::new()),
        ("/etc/nginx/tls/piazza.crt", certificate.file()),
        ("/etc/nginx/tls/piazza.key", certificate.key()),
        ("/var/log/nginx/piazza.access.log", path("access.log")),
        ("/var/log/nginx/error.log", path("error.log")),
        ("/run/nginx.pid", path("nginx.pid")),
    ];
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nginx.conf");
    let mut conf = std::fs::read_to_string(file).expect("deploy/nginx.conf");
    for (from, to) in swaps {
        assert!(
            conf.contains(from),
            "deploy/nginx.conf no longer has `{from}`"
        );
        conf = conf.replace(from, &to);
    }
    // Without root the folders that the package made can't be used.
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temp = kinds
        .map(|kind| format!("{kind}_temp_path {};\n", path(kind)))
        .concat();
    conf.replacen("http {\n", &format!("http {{\n{temp}"), 1)
}
