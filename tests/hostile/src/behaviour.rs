//! Hostile receivers, each with how an attempt on it ends.

use std::time::Duration;

use postrider_domain::ErrorKind;

use crate::authority::Certificate;

/// What a receiver does with a connection.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// Reads and says nothing, not even in the handshake.
    StallsTls,
    /// Says this instead of a handshake, and closes.
    NoTls(&'static [u8]),
    /// Resets the connection instead of a handshake.
    HangsUp,
    /// After the handshake reads nothing.
    TakesNothing,
    /// Reads the beginning of a request and resets.
    BreaksOff,
    /// Reads a request, says this, and then does that.
    Says(&'static [u8], End),
    /// Reads a request, says the first, and then the second over and over, with pauses.
    Drips(&'static [u8], &'static [u8], Duration),
    /// The same without pauses, as fast as the other side reads.
    Floods(&'static [u8], &'static [u8]),
    /// Speaks HTTP/2: says the first, waits for a request, says the second, and goes on.
    Frames(&'static [u8], &'static [u8], Then),
    /// Answers each request of a connection with its number.
    Serves,
}

/// What a receiver that speaks HTTP/2 does in the end.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// Reads on.
    Holds,
    /// Closes the connection.
    Closes,
    /// Says this over and over, as fast as the other side reads, and reads what that one says.
    Floods(&'static [u8]),
}

/// How a receiver leaves a connection.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// In order, with the farewell of TLS.
    Closes,
    /// TCP in order, TLS without a farewell: as somebody on the way would do it.
    Cuts,
    /// With a reset, a while after it said something.
    Resets,
    /// Not at all.
    Holds,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// With this kind of error.
    Kind(ErrorKind),
    /// With this status; what is kept of the body is this long.
    Status(u16, usize),
}

/// A hostile receiver.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// A label of its name: `1.NAME.example`.
    pub name: &'static str,
    /// Who it says it is.
    pub certificate: Certificate,
    /// What it does.
    pub deed: Deed,
    /// What comes of it.
    pub expected: Expected,
}

/// Long enough for a second drop of those that drip one a second.
const PATIENCE: Duration = Duration::from_millis(1200);

/// For those that end an attempt by too much of something, however slow the machine is.
const MUCH_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of the largest request here: the largest event.
pub const BODY_BYTES_MAX: usize = 1 << 20;

impl Behaviour {
    /// The timeout of an attempt that shows it.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        match self.deed {
            Deed::Floods(..) | Deed::Frames(_, _, Then::Floods(_)) => MUCH_PATIENCE,
            _ => PATIENCE,
        }
    }

    /// Bytes of a request that shows it: more than the socket buffers take, where it matters that
    /// the receiver does not read.
    #[must_use]
    pub const fn body_bytes(&self) -> usize {
        match self.deed {
            Deed::TakesNothing | Deed::BreaksOff | Deed::Frames(NO_WINDOW, ..) => BODY_BYTES_MAX,
            _ => 256,
        }
    }
}

const fn row(name: &'static str, deed: Deed, kind: ErrorKind) -> Behaviour {
    Behaviour {
        name,
        certificate: Certificate::Good,
        deed,
        expected: Expected::Kind(kind),
    }
}

const fn answers(name: &'static str, deed: Deed, status: u16, kept: usize) -> Behaviour {
    let expected = Expected::Status(status, kept);
    Behaviour {
        name,
        certificate: Certificate::Good,
        deed,
        expected,
    }
}

const fn certified(name: &'static str, certificate: Certificate, kind: ErrorKind) -> Behaviour {
    Behaviour {
        name,
        certificate,
        deed: Deed::Serves,
        expected: Expected::Kind(kind),
    }
}

const A_SECOND: Duration = Duration::from_secs(1);
const KEPT: usize = postrider_egress::BODY_BYTES_MAX;

/// A gzip file of 12 kB that holds 12 MB of zeros, as an answer.
pub const BOMB: &[u8] = include_bytes!("bomb.gz");

/// Sent with [`BOMB`].
pub const BOMB_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n";

/// `ServerHello` of TLS 1.0: nothing but version, random bytes, and a cipher of its time.
const TLS_1_0: &[u8] = b"\x16\x03\x01\x00\x2a\x02\x00\x00\x26\x03\x01\
    abcdefghijklmnopqrstuvwxyz012345\x00\x00\x2f\x00";

/// The same of TLS 1.1.
const TLS_1_1: &[u8] = b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02\
    abcdefghijklmnopqrstuvwxyz012345\x00\x00\x2f\x00";

/// A fatal alert: protocol_version.
const ALERT_VERSION: &[u8] = b"\x15\x03\x01\x00\x02\x02\x46";

/// A fatal alert: handshake_failure.
const ALERT_FAILURE: &[u8] = b"\x15\x03\x03\x00\x02\x02\x28";

/// A frame of HTTP/2: nine bytes of length, kind, flags and stream, then its content.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const NO_STREAMS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\0";
const NO_WINDOW: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0abcdefgh";
const REFUSES: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07";
const CANCELS: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";
const RESETS_UNKNOWN: &[u8] = b"\0\0\x04\x03\0\0\0\0\x63\0\0\0\x08";
const LEAVES_BEFORE: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
const LEAVES_AFTER: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0";
const LEAVES_BROKEN: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x02";
const STATUS_200: &[u8] = b"\0\0\x01\x01\x04\0\0\0\x01\x88";
const ANSWERS_AND_LEAVES: &[u8] =
    b"\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x02";
const STATUS_103: &[u8] = b"\0\0\x05\x01\x04\0\0\0\x01\x08\x03103";
const UNENDED_HEAD: &[u8] = b"\0\0\x01\x01\0\0\0\0\x01\x88";
const CONTINUATION: &[u8] = b"\0\0\x05\x09\0\0\0\0\x01\0\x01a\x01b";
const MUCH_DATA: [u8; 9 + 4096] = {
    let mut frame = [b'x'; 9 + 4096];
    let (head, _) = frame.split_at_mut(9);
    head.copy_from_slice(b"\0\x10\0\0\0\0\0\0\x01");
    frame
};
const NO_DATA: &[u8] = b"\0\0\0\0\0\0\0\0\x01";
const TOO_LONG: &[u8] = b"\xff\xff\xff\0\0\0\0\0\x01";
const PUSHES: &[u8] = b"\0\0\x05\x05\x04\0\0\0\x01\0\0\0\x02\x88";

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n";
const LINE: &[u8] = b"x-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n";
const LETTERS: &[u8] = &[b'a'; 4096];

/// A small head with more fields than are read.
const FIELDS: [u8; HEAD.len() + 6 * 101 + 2] = {
    let mut head = [0; HEAD.len() + 6 * 101 + 2];
    let (mut at, mut fields) = head.split_at_mut(HEAD.len());
    at.copy_from_slice(HEAD);
    while fields.len() > 2 {
        (at, fields) = fields.split_at_mut(6);
        at.copy_from_slice(b"a: b\r\n");
    }
    fields.copy_from_slice(b"\r\n");
    head
};

/// All of them. The place in this list is part of a receiver's address, so [`SERVES`] is first.
pub const BEHAVIOURS: &[Behaviour] = {
    use Deed::{
        BreaksOff, Drips, Floods, Frames, HangsUp, NoTls, Says, Serves, StallsTls, TakesNothing,
    };
    use End::{Closes, Cuts, Holds, Resets};
    use ErrorKind::*;
    &[
        answers(SERVES, Serves, 200, 1),
        // TLS
        row("stalls-tls", StallsTls, TimeoutTls),
        row("hangs-up", HangsUp, Tls),
        row("speaks-http", NoTls(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Tls),
        row("says-nothing-and-closes", NoTls(b""), Tls),
        row("refuses-tls", NoTls(ALERT_FAILURE), Tls),
        row("tls-1-0", NoTls(TLS_1_0), TlsVersion),
        row("tls-1-1", NoTls(TLS_1_1), TlsVersion),
        row("refuses-our-tls", NoTls(ALERT_VERSION), TlsVersion),
        certified("expired", Certificate::Expired, TlsExpired),
        certified("not-yet-valid", Certificate::NotYet, TlsCertificate),
        certified("wrong-name", Certificate::WrongName, TlsWrongName),
        certified("self-signed", Certificate::SelfSigned, TlsUntrusted),
        certified("unknown-authority", Certificate::UnknownAuthority, TlsUntrusted),
        // the request
        row("takes-nothing", TakesNothing, TimeoutRequest),
        row("breaks-off", BreaksOff, ResetRequest),
        // the head of the answer
        row("says-nothing", Says(b"", Holds), TimeoutHead),
        row("head-byte-a-second", Drips(b"HTTP/1.1 2", b"0", A_SECOND), TimeoutHead),
        row("endless-fields", Floods(HEAD, LINE), HeadTooLarge),
        row("endless-field", Floods(b"HTTP/1.1 200 OK\r\nx-a: ", LETTERS), HeadTooLarge),
        row("endless-reason", Floods(b"HTTP/1.1 200 ", LETTERS), HeadTooLarge),
        row("too-many-fields", Says(&FIELDS, Closes), HeadTooLarge),
        row("interim-flood", Floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), InterimFlood),
        row("early-hints-flood", Floods(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), InterimFlood),
        row("interim-drip", Drips(b"", b"HTTP/1.1 102 Processing\r\n\r\n", A_SECOND), TimeoutHead),
        row("closes-unanswered", Says(b"", Closes), IncompleteHead),
        row("cuts-unanswered", Says(b"", Cuts), IncompleteHead),
        row("closes-within-the-head", Says(b"HTTP/1.1 200 OK\r\ncontent-le", Closes), IncompleteHead),
        row("resets-unanswered", Says(b"", Resets), ResetHead),
        row("speaks-ssh", Says(b"SSH-2.0-OpenSSH_9.2\r\n", Closes), MalformedHead),
        row("status-of-letters", Says(b"HTTP/1.1 abc OK\r\n\r\n", Closes), MalformedHead),
        row("status-too-long", Says(b"HTTP/1.1 2000 OK\r\n\r\n", Closes), MalformedHead),
        row("http-9", Says(b"HTTP/9.9 200 OK\r\n\r\n", Closes), MalformedHead),
        row("http-0-9", Says(b"<html>hello</html>\r\n", Closes), MalformedHead),
        row("field-without-colon", Says(b"HTTP/1.1 200 OK\r\nab c\r\n\r\n", Closes), MalformedHead),
        row("nul-in-a-field", Says(b"HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n", Closes), MalformedHead),
        row("lengths-in-conflict", Says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc", Closes), MalformedHead),
        row("length-of-letters", Says(b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nab", Closes), MalformedHead),
        row("length-below-zero", Says(b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nab", Closes), MalformedHead),
        row("length-beyond-64-bits", Says(b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551617\r\n\r\nab", Closes), MalformedHead),
        // its body
        row("body-byte-a-second", Drips(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n", b"x", A_SECOND), TimeoutBody),
        row("body-that-stops", Says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", Holds), TimeoutBody),
        row("chunk-that-stops", Says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf", Holds), TimeoutBody),
        row("length-too-long", Says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", Closes), IncompleteBody),
        row("length-huge", Says(b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551000\r\n\r\nhalf", Closes), IncompleteBody),
        row("cut-short", Says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", Cuts), IncompleteBody),
        row("cut-without-length", Says(b"HTTP/1.1 200 OK\r\n\r\nhalf", Cuts), IncompleteBody),
        row("chunks-that-end-early", Says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", Closes), IncompleteBody),
        row("resets-after-2xx", Says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", Resets), ResetBody),
        row("chunk-size-of-letters", Says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nab\r\n0\r\n\r\n", Closes), MalformedBody),
        row("chunk-without-end", Says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabcdef\r\n0\r\n\r\n", Closes), MalformedBody),
        row("chunk-beyond-64-bits", Says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nab", Closes), MalformedBody),
        row("endless-chunk-extension", Floods(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=", LETTERS), MalformedBody),
        row("endless-trailers", Floods(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", LINE), MalformedBody),
        // HTTP/2
        row("h2-no-streams", Frames(NO_STREAMS, b"", Then::Holds), TimeoutStream),
        row("h2-no-settings", Frames(b"", b"", Then::Holds), TimeoutStream),
        row("h2-no-frames", Frames(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", Then::Holds), UnprocessedNoStream),
        row("h2-refuses", Frames(SETTINGS, REFUSES, Then::Holds), UnprocessedRefused),
        row("h2-leaves-before", Frames(SETTINGS, LEAVES_BEFORE, Then::Holds), UnprocessedGoaway),
        row("h2-leaves-broken", Frames(SETTINGS, LEAVES_BROKEN, Then::Closes), IncompleteHead),
        row("h2-leaves-within", Frames(SETTINGS, ANSWERS_AND_LEAVES, Then::Holds), H2Goaway),
        row("h2-leaves-and-closes", Frames(SETTINGS, LEAVES_AFTER, Then::Closes), IncompleteHead),
        row("h2-cancels", Frames(SETTINGS, CANCELS, Then::Holds), H2Reset),
        row("h2-says-nothing", Frames(SETTINGS, b"", Then::Holds), TimeoutHead),
        row("h2-body-that-stops", Frames(SETTINGS, STATUS_200, Then::Holds), TimeoutBody),
        row("h2-no-window", Frames(NO_WINDOW, b"", Then::Holds), TimeoutRequest),
        row("h2-frame-too-long", Frames(SETTINGS, TOO_LONG, Then::Holds), H2Protocol),
        row("h2-pushes", Frames(SETTINGS, PUSHES, Then::Holds), H2Protocol),
        row("h2-goaway-flood", Frames(SETTINGS, b"", Then::Floods(LEAVES_AFTER)), H2Protocol),
        row("h2-reset-flood", Frames(SETTINGS, b"", Then::Floods(RESETS_UNKNOWN)), H2Protocol),
        row("h2-settings-flood", Frames(SETTINGS, b"", Then::Floods(SETTINGS)), H2Protocol),
        row("h2-ping-flood", Frames(SETTINGS, b"", Then::Floods(PING)), H2Protocol),
        row("h2-continuation-flood", Frames(SETTINGS, UNENDED_HEAD, Then::Floods(CONTINUATION)), H2Protocol),
        row("h2-empty-data-flood", Frames(SETTINGS, STATUS_200, Then::Floods(NO_DATA)), H2Protocol),
        row("h2-interim-flood", Frames(SETTINGS, b"", Then::Floods(STATUS_103)), InterimFlood),
        // answers that count, however hostile
        answers("h2-endless-body", Frames(SETTINGS, STATUS_200, Then::Floods(&MUCH_DATA)), 200, KEPT),
        answers("endless-body", Floods(b"HTTP/1.1 200 OK\r\n\r\n", LETTERS), 200, KEPT),
        answers("ten-gigabytes", Floods(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n", LETTERS), 200, KEPT),
        answers("tiny-chunks", Floods(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), 200, KEPT),
        answers("gzip-bomb", Says(BOMB_HEAD, Closes), 200, BOMB.len()),
        answers(SHORT, Says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", Holds), 200, 2),
        answers("redirects-301", Says(b"HTTP/1.1 301 A\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n", Holds), 301, 0),
        answers("redirects-302", Says(b"HTTP/1.1 302 A\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n", Holds), 302, 0),
        answers("redirects-303", Says(b"HTTP/1.1 303 A\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n", Holds), 303, 0),
        answers("redirects-307", Says(b"HTTP/1.1 307 A\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n", Holds), 307, 0),
        answers("redirects-308", Says(b"HTTP/1.1 308 A\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n", Holds), 308, 0),
        answers("switches-protocols", Says(b"HTTP/1.1 101 A\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nabc", Holds), 101, 0),
    ]
};

/// The honest receiver.
pub const SERVES: &str = "serves";

/// The one whose answer is longer than it says, by another answer.
pub const SHORT: &str = "length-too-short";
