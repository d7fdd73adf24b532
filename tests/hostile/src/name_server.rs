//! A name server that says whatever its table says.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// What a name answers.
#[derive(Clone, Debug)]
pub enum Zone {
    /// These addresses.
    Has(Vec<IpAddr>),
    /// These at the first question for each family, those at all later ones.
    Turns(Vec<IpAddr>, Vec<IpAddr>),
    /// Another name, which has these; none of them: the other name has to be asked for.
    Is(&'static str, Vec<IpAddr>),
    /// The same, but too much for a datagram: it has to be asked for again over TCP.
    HasOverTcp(Vec<IpAddr>),
    /// A failure.
    Fails(ResponseCode),
    /// `FAILURES` for each family, then these.
    FailsAndThen(Vec<IpAddr>),
    /// Nothing.
    Silent,
}

/// As often as one lookup asks, with all its repetitions.
const FAILURES: usize = 4;

/// Names without a zone of their own: `N.BEHAVIOUR.example` to an address.
pub type Default = fn(&str) -> Option<IpAddr>;

/// The table, and how often each of its names was asked for, by family.
pub struct NameServer {
    zones: HashMap<String, Zone>,
    default: Default,
    asked: Mutex<HashMap<(String, RecordType), usize>>,
}

impl NameServer {
    /// Serves at `address`, over UDP and TCP, until the runtime ends.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn serve(
        address: SocketAddr,
        zones: HashMap<String, Zone>,
        default: Default,
    ) -> Result<Arc<Self>> {
        let socket = UdpSocket::bind(address).await?;
        let listener = TcpListener::bind(address).await?;
        let server = Arc::new(Self {
            zones,
            default,
            asked: Mutex::default(),
        });
        tokio::spawn(datagrams(socket, Arc::clone(&server)));
        tokio::spawn(connections(listener, Arc::clone(&server)));
        Ok(server)
    }

    /// Questions so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.values().sum()
    }

    fn count(&self, name: &str, family: RecordType) -> usize {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asked.entry((name.to_owned(), family)).or_default();
        *count += 1;
        *count
    }

    fn answer(&self, question: &[u8], datagram: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        let query = question.queries.first()?.clone();
        let name = query
            .name()
            .to_ascii()
            .trim_end_matches('.')
            .to_ascii_lowercase();
        let family = query.query_type();
        let asked = self.count(&name, family);
        let zone = self.zones.get(&name).cloned().unwrap_or_else(|| {
            let address = (self.default)(&name);
            address.map_or(Zone::Fails(ResponseCode::NXDomain), |a| Zone::Has(vec![a]))
        });
        let mut answer = Message::new(question.id, MessageType::Response, OpCode::Query);
        answer.add_query(query.clone());
        let mut owner = query.name().clone();
        let addresses = match zone {
            Zone::Silent => return None,
            Zone::HasOverTcp(_) if datagram => {
                answer.metadata.truncation = true;
                Vec::new()
            }
            Zone::FailsAndThen(_) if asked <= FAILURES => {
                answer.metadata.response_code = ResponseCode::ServFail;
                Vec::new()
            }
            Zone::Fails(code) => {
                answer.metadata.response_code = code;
                Vec::new()
            }
            Zone::Turns(addresses, _) if asked == 1 => addresses,
            Zone::Is(other, addresses) => {
                let other = Name::from_ascii(other).ok()?;
                let alias = RData::CNAME(CNAME(other.clone()));
                answer.add_answer(Record::from_rdata(owner, 0, alias));
                owner = other;
                addresses
            }
            Zone::Has(addresses)
            | Zone::HasOverTcp(addresses)
            | Zone::Turns(_, addresses)
            | Zone::FailsAndThen(addresses) => addresses,
        };
        for address in addresses {
            let data = match (family, address) {
                (RecordType::A, IpAddr::V4(v4)) => RData::A(v4.into()),
                (RecordType::AAAA, IpAddr::V6(v6)) => RData::AAAA(v6.into()),
                _ => continue,
            };
            // No time at all: the next attempt is to ask again.
            answer.add_answer(Record::from_rdata(owner.clone(), 0, data));
        }
        answer.to_vec().ok()
    }
}

async fn datagrams(socket: UdpSocket, server: Arc<NameServer>) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        if let Some(answer) = server.answer(&buffer[..length], true) {
            socket.send_to(&answer, from).await.ok();
        }
    }
}

async fn connections(listener: TcpListener, server: Arc<NameServer>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut question = vec![0; usize::from(length)];
                if stream.read_exact(&mut question).await.is_err() {
                    return;
                }
                let Some(answer) = server.answer(&question, false) else {
                    continue;
                };
                let length = u16::try_from(answer.len()).expect("a message");
                let mut framed = length.to_be_bytes().to_vec();
                framed.extend(answer);
                if stream.write_all(&framed).await.is_err() {
                    return;
                }
            }
        });
    }
}
