//! One listener for all receivers: which of them a connection is for, its local address says.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;
use crate::behaviour::{BEHAVIOURS, BOMB, BOMB_HEAD, Behaviour, Deed, End, Then};

/// Within the timeout of those who send here.
const RESET_AFTER: Duration = Duration::from_millis(200);

/// What one of them saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// TCP connections.
    pub connections: usize,
    /// Heads of requests.
    pub requests: usize,
    /// Bytes it got rid of after its handshake.
    pub written: usize,
}

/// All of them.
pub struct Receivers {
    acceptors: Vec<TlsAcceptor>,
    seen: Mutex<HashMap<&'static str, Seen>>,
}

impl Receivers {
    /// Listens on port 443 of every address there is, until the runtime ends.
    ///
    /// # Errors
    /// The port is taken, or no certificate can be made.
    pub async fn serve(authority: &Authority) -> Result<Arc<Self>> {
        let acceptors = BEHAVIOURS.iter().map(|behaviour| {
            let protocol: &[u8] = match behaviour.deed {
                Deed::Frames(..) => b"h2",
                _ => b"http/1.1",
            };
            let domain = format!("{}.example", behaviour.name);
            authority.acceptor(&domain, behaviour.certificate, protocol)
        });
        let receivers = Arc::new(Self {
            acceptors: acceptors.collect::<Result<_>>()?,
            seen: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 443)).await?;
        let serving = Arc::clone(&receivers);
        tokio::spawn(async move {
            loop {
                // Without room for another socket the next one is waited for.
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(Arc::clone(&serving).receive(stream));
                }
            }
        });
        Ok(receivers)
    }

    /// What that one saw so far.
    #[must_use]
    pub fn seen(&self, behaviour: &Behaviour) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(behaviour.name).copied().unwrap_or_default()
    }

    fn note(&self, behaviour: &Behaviour, what: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        what(seen.entry(behaviour.name).or_default());
    }

    async fn receive(self: Arc<Self>, stream: TcpStream) {
        let Some(number) = stream.local_addr().ok().and_then(number) else {
            return;
        };
        let behaviour = &BEHAVIOURS[number];
        self.note(behaviour, |seen| seen.connections += 1);
        // Whatever goes wrong here, the other side wanted it so.
        self.deal(behaviour, &self.acceptors[number], stream)
            .await
            .ok();
    }

    async fn deal(
        &self,
        behaviour: &Behaviour,
        acceptor: &TlsAcceptor,
        mut stream: TcpStream,
    ) -> std::io::Result<()> {
        match behaviour.deed {
            Deed::StallsTls => return drain(&mut stream).await,
            Deed::HangsUp => {
                stream.read_buf(&mut Vec::with_capacity(4096)).await?;
                return stream.set_zero_linger();
            }
            Deed::NoTls(said) => {
                stream.read_buf(&mut Vec::with_capacity(4096)).await?;
                stream.write_all(said).await?;
                stream.shutdown().await?;
                return drain(&mut stream).await;
            }
            _ => {}
        }
        let mut stream = acceptor.accept(stream).await?;
        match behaviour.deed {
            Deed::TakesNothing => {
                // Until the other side is gone; what it wrote stays unread.
                stream.get_ref().0.ready(Interest::ERROR).await?;
            }
            Deed::BreaksOff => {
                stream.read_exact(&mut [0; 1024]).await?;
                stream.get_ref().0.set_zero_linger()?;
            }
            Deed::Says(said, end) => {
                self.request(behaviour, &mut stream).await?;
                stream.write_all(said).await?;
                if said == BOMB_HEAD {
                    stream.write_all(BOMB).await?;
                }
                stream.flush().await?;
                match end {
                    End::Closes => {
                        stream.shutdown().await?;
                        drain(&mut stream).await?;
                    }
                    End::Cuts => stream.get_mut().0.shutdown().await?,
                    End::Resets => {
                        if !said.is_empty() {
                            // A reset takes away what the other side has not read.
                            tokio::time::sleep(RESET_AFTER).await;
                        }
                        stream.get_ref().0.set_zero_linger()?;
                    }
                    End::Holds => drain(&mut stream).await?,
                }
            }
            Deed::Drips(first, drop, pause) => {
                self.request(behaviour, &mut stream).await?;
                stream.write_all(first).await?;
                let mut tick = tokio::time::interval(pause);
                loop {
                    tick.tick().await;
                    stream.write_all(drop).await?;
                    stream.flush().await?;
                }
            }
            Deed::Floods(first, flood) => {
                self.request(behaviour, &mut stream).await?;
                stream.write_all(first).await?;
                let much = flood.repeat(16 * 1024 / flood.len());
                loop {
                    stream.write_all(&much).await?;
                    self.note(behaviour, |seen| seen.written += much.len());
                }
            }
            Deed::Frames(greeting, answer, then) => {
                stream.write_all(greeting).await?;
                stream.flush().await?;
                frames_to_request(&mut stream).await?;
                self.note(behaviour, |seen| seen.requests += 1);
                stream.write_all(answer).await?;
                stream.flush().await?;
                match then {
                    Then::Holds => drain(&mut stream).await?,
                    Then::Closes => stream.shutdown().await?,
                    Then::Floods(flood) => {
                        let much = flood.repeat((16 * 1024 / flood.len()).max(1));
                        let (mut reading, mut writing) = tokio::io::split(stream);
                        let flood = async {
                            loop {
                                writing.write_all(&much).await?;
                                self.note(behaviour, |seen| seen.written += much.len());
                            }
                        };
                        return tokio::select! {
                            read = drain(&mut reading) => read,
                            wrote = flood => wrote,
                        };
                    }
                }
            }
            Deed::Serves => {
                for number in 1.. {
                    self.request(behaviour, &mut stream).await?;
                    let body = number.to_string();
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).await?;
                    stream.flush().await?;
                }
            }
            Deed::StallsTls | Deed::HangsUp | Deed::NoTls(_) => {}
        }
        Ok(())
    }

    /// Reads a request to its end.
    async fn request(
        &self,
        behaviour: &Behaviour,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<()> {
        let mut read = Vec::with_capacity(2048);
        loop {
            if stream.read_buf(&mut read).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
            if read.len() >= end + 4 + length {
                self.note(behaviour, |seen| seen.requests += 1);
                return Ok(());
            }
        }
    }
}

/// Reads what a client of HTTP/2 says up to the end of its first request.
async fn frames_to_request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    stream.read_exact(&mut [0; PREFACE]).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await?;
        if matches!(head[3], DATA | HEADERS) && head[4] & END_STREAM != 0 {
            return Ok(());
        }
    }
}

/// Reads until the other side is gone.
async fn drain(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// The place of a receiver in [`BEHAVIOURS`].
fn number(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(v4) if v4.octets()[0] == 93 => {
            let number = usize::from(v4.octets()[2]);
            (number < BEHAVIOURS.len()).then_some(number)
        }
        _ => None,
    }
}

/// The address of `HOST.BEHAVIOUR.example`, host 0 to 1023.
#[must_use]
pub fn address_of(name: &str) -> Option<IpAddr> {
    let (host, rest) = name.split_once('.')?;
    let behaviour = rest.strip_suffix(".example")?;
    let number = BEHAVIOURS
        .iter()
        .position(|known| known.name == behaviour)?;
    let host: u16 = host.parse().ok().filter(|host| *host < 1024)?;
    let [high, low] = host.to_be_bytes();
    Some(Ipv4Addr::new(93, 184 + high, u8::try_from(number).ok()?, low).into())
}
