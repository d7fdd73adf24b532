//! A schema registry in a few lines, that can be away.
//!
//! It answers by the paths, bodies and error codes that Confluent documents for its own, and nothing
//! else; what is not there is a 404 with error code 40403. Being away is real: its port is closed.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

/// The registry. Dropping it closes its port.
pub struct SchemaRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<Serving>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<BTreeMap<String, (u16, String)>>,
    requests: Mutex<Vec<String>>,
}

struct Serving {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl SchemaRegistry {
    /// Starts on a port of 127.0.0.1 that is free.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let mut this = Self {
            address: listener.local_addr().expect("it is bound"),
            shared: Arc::default(),
            serving: None,
        };
        this.serve(listener);
        this
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Keeps a schema under a number; `kind` is `AVRO`, `PROTOBUF` or `JSON`.
    pub fn keep(&self, id: u32, kind: &str, schema: &str, references: &Value) {
        let body = json!({ "schema": schema, "schemaType": kind, "references": references });
        self.answer(&format!("/schemas/ids/{id}"), 200, &body.to_string());
    }

    /// What it answers to a path from now on.
    pub fn answer(&self, path: &str, status: u16, body: &str) {
        let answer = (status, body.to_owned());
        let mut answers = self.shared.answers.lock().expect("no test panicked here");
        answers.insert(path.to_owned(), answer);
    }

    /// The requests so far: the first line of each, and its `authorization`.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let requests = self.shared.requests.lock().expect("no test panicked here");
        requests.clone()
    }

    /// Closes the port.
    pub fn go_away(&mut self) {
        if let Some(Serving { over, thread }) = self.serving.take() {
            over.store(true, Ordering::Relaxed);
            // wakes the one that waits for a connection
            drop(TcpStream::connect(self.address));
            thread.join().expect("the registry's thread ends");
        }
    }

    /// Opens the same port again.
    pub fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).expect("the port is free again");
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let over = Arc::new(AtomicBool::new(false));
        let (ended, shared) = (Arc::clone(&over), Arc::clone(&self.shared));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                // A client that went away is none of ours.
                stream.and_then(|stream| shared.respond(stream)).ok();
            }
        });
        self.serving = Some(Serving { over, thread });
    }
}

impl Drop for SchemaRegistry {
    fn drop(&mut self) {
        self.go_away();
    }
}

impl Shared {
    fn respond(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let mut request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some(credentials) = line.strip_prefix("authorization: ") {
                request = format!("{request} {credentials}");
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        self.requests
            .lock()
            .expect("no test panicked here")
            .push(request);
        let answers = self.answers.lock().expect("no test panicked here");
        let none = (
            404,
            json!({"error_code": 40403, "message": "Schema not found"}).to_string(),
        );
        let (status, body) = answers.get(&path).unwrap_or(&none);
        write!(
            stream,
            "HTTP/1.1 {status} \r\ncontent-type: application/vnd.schemaregistry.v1+json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }
}
