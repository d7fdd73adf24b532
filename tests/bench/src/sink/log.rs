//! The sink's log: one record of fixed length per request, in order of arrival.
//!
//! Decides its form, which is all that the sink and its readers share. Leaves judging it to
//! `audit`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes of a record.
pub const LENGTH: usize = 24;
/// As the event of a request whose body held none of ours.
pub const NO_EVENT: u64 = u64::MAX;

/// Of the last two bytes of a record: the status, which has three digits, and above it the rest.
const STATUS: u16 = 0x3ff;
const CONNECTION_SHIFT: u32 = 10;
const SIGNED: u16 = 1 << 12;

/// What a request came over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// One that had brought another before.
    #[default]
    Kept,
    /// A new one, without TLS.
    Plain,
    /// A new one, after a full handshake.
    Handshake,
    /// A new one, whose handshake resumed a session.
    Resumed,
}

impl Connection {
    const ALL: [Self; 4] = [Self::Kept, Self::Plain, Self::Handshake, Self::Resumed];
}

/// A request as the sink saw it. Its place in the log is its place in the order of arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// When its last byte was read, microseconds since the epoch.
    pub at_us: u64,
    /// The number of its event, or [`NO_EVENT`].
    pub event: u64,
    /// Whose it was.
    pub receiver: u32,
    /// Its `postrider-attempt`; 0 = none that is a number.
    pub attempt: u16,
    /// What it was to be answered; 0 = nothing.
    pub status: u16,
    /// What it came over.
    pub connection: Connection,
    /// Whether its signature is right.
    pub signed: bool,
}

impl Arrival {
    /// Its record.
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&self.at_us.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.event.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.receiver.to_le_bytes());
        bytes[20..22].copy_from_slice(&self.attempt.to_le_bytes());
        let signed = if self.signed { SIGNED } else { 0 };
        let last = self.status & STATUS | (self.connection as u16) << CONNECTION_SHIFT | signed;
        bytes[22..].copy_from_slice(&last.to_le_bytes());
        bytes
    }

    /// What a record says.
    pub fn decode(bytes: &[u8; LENGTH]) -> Self {
        let last = u16::from_le_bytes(part(bytes, 22));
        Self {
            at_us: u64::from_le_bytes(part(bytes, 0)),
            event: u64::from_le_bytes(part(bytes, 8)),
            receiver: u32::from_le_bytes(part(bytes, 16)),
            attempt: u16::from_le_bytes(part(bytes, 20)),
            status: last & STATUS,
            connection: Connection::ALL[usize::from(last >> CONNECTION_SHIFT) % 4],
            signed: last & SIGNED != 0,
        }
    }

    /// Whether it was answered well, which ends its delivery.
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

fn part<const N: usize>(bytes: &[u8; LENGTH], from: usize) -> [u8; N] {
    std::array::from_fn(|n| bytes[from + n])
}

/// Reads a log while it grows.
pub struct Reader {
    file: File,
    read: u64,
}

impl Reader {
    /// From the beginning.
    ///
    /// # Errors
    /// There is no such file.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            read: 0,
        })
    }

    /// What has come since the last call.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn more(&mut self) -> io::Result<Vec<Arrival>> {
        self.file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        // a record without its end is still being written
        let (records, _) = bytes.as_chunks::<LENGTH>();
        self.read += (records.len() * LENGTH) as u64;
        Ok(records.iter().map(Arrival::decode).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{Arrival, Connection, LENGTH, NO_EVENT, Reader};

    fn arrival(event: u64) -> Arrival {
        Arrival {
            at_us: 1_700_000_000_123_456,
            event,
            receiver: 70_000,
            attempt: 3,
            status: 503,
            connection: Connection::Resumed,
            signed: true,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for event in [0, 1_000_000, NO_EVENT] {
            assert_eq!(Arrival::decode(&arrival(event).encode()), arrival(event));
        }
        for connection in Connection::ALL {
            for (signed, status) in [(true, 999), (false, 999), (true, 0), (false, 0)] {
                let arrival = Arrival {
                    connection,
                    signed,
                    status,
                    ..arrival(1)
                };
                assert_eq!(Arrival::decode(&arrival.encode()), arrival);
            }
        }
    }

    #[test]
    fn a_growing_log_is_read_record_by_record() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut reader = Reader::open(file.path()).unwrap();
        assert_eq!(reader.more().unwrap(), []);
        let (one, other) = (arrival(1).encode(), arrival(2).encode());
        file.write_all(&one).unwrap();
        file.write_all(&other[..LENGTH - 1]).unwrap();
        assert_eq!(reader.more().unwrap(), [arrival(1)]);
        file.write_all(&other[LENGTH - 1..]).unwrap();
        assert_eq!(reader.more().unwrap(), [arrival(2)]);
        assert_eq!(reader.more().unwrap(), []);
    }
}
