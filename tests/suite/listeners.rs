//! Servers on this machine that write down what they are told: HTTP and SMTP, just enough of each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Heard {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// Answers every request in one way until the test ends.
pub struct Http {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Http {
    pub fn answering(code: u16) -> Http {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let list = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(request) = request(&stream) {
                    list.lock().expect("whole").push(request);
                    let mut stream = stream;
                    let head = format!("HTTP/1.1 {code} So\r\nLocation: http://127.0.0.1:1/\r\n");
                    let _ = write!(stream, "{head}Content-Length: 6\r\nConnection: close\r\n\r\nheard\n");
                }
            }
        });
        Http { address, heard }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("whole").clone()
    }
}

fn request(stream: &TcpStream) -> Option<Heard> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let mut heard =
        Heard { method: words.next()?.to_owned(), path: words.next()?.to_owned(), ..Heard::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        heard.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut body = vec![0; heard.header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    heard.body = String::from_utf8_lossy(&body).into_owned();
    Some(heard)
}

/// A mail server that takes everything, and knows one user.
pub struct Smtp {
    pub address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

impl Smtp {
    pub fn new() -> Smtp {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let list = Arc::clone(&said);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                talk(stream, &list);
            }
        });
        Smtp { address, said }
    }

    /// Every line that was said to it.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().expect("whole").clone()
    }
}

fn talk(stream: TcpStream, said: &Mutex<Vec<String>>) {
    let mut out = stream.try_clone().expect("a stream");
    let mut tell = |text: &str| out.write_all(text.as_bytes()).is_ok();
    let mut letter = false;
    tell("220 here\r\n");
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        said.lock().expect("whole").push(line.clone());
        let word = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let answered = match (letter, word.as_str()) {
            (true, _) if line == "." => {
                letter = false;
                tell("250 taken as 4711\r\n")
            }
            (true, _) => true,
            (_, "EHLO") => tell("250-here\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n"),
            (_, "AUTH") => tell("235 known\r\n"),
            (_, "DATA") => {
                letter = true;
                tell("354 go on\r\n")
            }
            (_, "QUIT") => {
                tell("221 bye\r\n");
                return;
            }
            _ => tell("250 fine\r\n"),
        };
        if !answered {
            return;
        }
    }
}
