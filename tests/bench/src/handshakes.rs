//! Bare requests over connections of every kind: what they and their handshakes cost anybody on
//! this machine.
//!
//! Decides how such a request is made: by as little code as it takes, with the TLS library, the
//! trust and the signature that Postrider uses, in a closed loop. `baseline` is the client that
//! most programs use, over connections that are kept. Leaves what is compared to the profiles, and
//! whether connections are kept to the sink.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use postrider_e2e::SECRET;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore};

use crate::baseline::{FIRST_RECEIVER, Pace};
use crate::now_us;
use crate::samples::cpu_seconds;
use crate::sink::signature::Key;
use crate::sink::{Sink, host};

/// What the TLS library counts for one host when it is told how many sessions to keep.
const TICKETS: usize = 8;

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub struct Handshakes {
    /// Hosts, in turn.
    pub hosts: u32,
    /// Requests at once.
    pub in_flight: usize,
    /// For so long.
    pub time: Duration,
    /// Bytes of a body.
    pub body: usize,
    /// Without TLS, with it, or with it and sessions that are kept for every host.
    pub wire: Wire,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP.
    Plain,
    /// HTTPS; each handshake is a full one.
    Tls,
    /// HTTPS; sessions are resumed.
    TlsWithSessions,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The requests; the CPU is that of this process.
    pub pace: Pace,
    /// Connections.
    pub connections: u64,
    /// Those of them that resumed a session.
    pub resumed: u64,
}

#[derive(Default)]
struct Counts {
    answered: u64,
    failed: u64,
    connections: u64,
    resumed: u64,
}

impl Handshakes {
    /// Does it, against the receivers of `sink`.
    ///
    /// # Errors
    /// It cannot begin.
    pub fn run(&self, sink: &Sink) -> anyhow::Result<Outcome> {
        let client = Arc::new(Client {
            key: Key::new(SECRET)?,
            tls: self.tls(&sink.authority())?.map(TlsConnector::from),
            port: sink.port(self.wire != Wire::Plain),
            next: AtomicU32::default(),
            how: *self,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let (began, cpu) = (Instant::now(), cpu_seconds(std::process::id())?);
        let mut all = Counts::default();
        runtime.block_on(async {
            let mut loops = JoinSet::new();
            for _ in 0..self.in_flight {
                loops.spawn(Arc::clone(&client).requests(began + self.time));
            }
            for counts in loops.join_all().await {
                all.answered += counts.answered;
                all.failed += counts.failed;
                all.connections += counts.connections;
                all.resumed += counts.resumed;
            }
        });
        let pace = Pace {
            requests: all.answered,
            failed: all.failed,
            seconds: began.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds(std::process::id())? - cpu,
        };
        Ok(Outcome {
            pace,
            connections: all.connections,
            resumed: all.resumed,
        })
    }

    fn tls(&self, authority: &Path) -> anyhow::Result<Option<Arc<ClientConfig>>> {
        if self.wire == Wire::Plain {
            return Ok(None);
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).context("the sink's authority")?)?;
        let mut config = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = match self.wire {
            Wire::TlsWithSessions => Resumption::in_memory_sessions(self.hosts as usize * TICKETS),
            Wire::Plain | Wire::Tls => Resumption::disabled(),
        };
        Ok(Some(Arc::new(config)))
    }
}

struct Client {
    key: Key,
    tls: Option<TlsConnector>,
    port: u16,
    next: AtomicU32,
    how: Handshakes,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Client {
    async fn requests(self: Arc<Self>, until: Instant) -> Counts {
        let mut counts = Counts::default();
        let mut kept = None;
        while Instant::now() < until {
            match self.request(kept.take(), &mut counts).await {
                Ok(stream) => {
                    counts.answered += 1;
                    kept = stream;
                }
                Err(_) => counts.failed += 1,
            }
        }
        counts
    }

    /// One; the connection, if it is kept.
    async fn request(
        &self,
        kept: Option<Box<dyn Stream>>,
        counts: &mut Counts,
    ) -> io::Result<Option<Box<dyn Stream>>> {
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.connect(counts).await?,
        };
        stream.write_all(&self.bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::with_capacity(256);
        while !answer.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut lines = answer.split(|byte| *byte == b'\n');
        let ends = lines.any(|line| line == b"connection: close\r");
        Ok((!ends).then_some(stream))
    }

    async fn connect(&self, counts: &mut Counts) -> io::Result<Box<dyn Stream>> {
        let host = host(self.next.fetch_add(1, Ordering::Relaxed) % self.how.hosts);
        let stream = TcpStream::connect(SocketAddr::from((host, self.port))).await?;
        stream.set_nodelay(true)?;
        counts.connections += 1;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let stream = tls.connect(host.into(), stream).await?;
        let kind = stream.get_ref().1.handshake_kind();
        counts.resumed += u64::from(kind == Some(HandshakeKind::Resumed));
        Ok(Box::new(stream))
    }

    /// A request with the headers Postrider sends.
    fn bytes(&self) -> Vec<u8> {
        let body = "x".repeat(self.how.body);
        let (id, timestamp) = ("bare", (now_us() / 1_000_000).to_string());
        let tag = self
            .key
            .tag(id.as_bytes(), timestamp.as_bytes(), body.as_bytes());
        let tag = String::from_utf8_lossy(&tag);
        let length = body.len();
        format!(
            "POST /r/{FIRST_RECEIVER} HTTP/1.1\r\nhost: receiver\r\ncontent-type: application/json\r\n\
             user-agent: bare\r\npostrider-attempt: 1\r\nwebhook-id: {id}\r\n\
             webhook-timestamp: {timestamp}\r\nwebhook-signature: v1,{tag}\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}
