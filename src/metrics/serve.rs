//! A page over HTTP, for a Prometheus that scrapes.

use crate::error::{Error, ErrorKind, Result};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use tiny_http::{Header, Method, Response};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers `GET /metrics` until it is dropped.
pub struct Server {
    server: Arc<tiny_http::Server>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl Server {
    /// Listens on `address`, such as `127.0.0.1:9105`; without a host on this machine alone. `page` is asked for the text at
    /// each request, on the server's own thread.
    pub fn start(address: &str, page: Box<dyn Fn() -> String + Send>) -> Result<Server> {
        let trouble = |why: String| Error::new(ErrorKind::Io, format!("cannot listen on {address}: {why}"));
        let full = match address.strip_prefix(':') {
            Some(port) => format!("127.0.0.1:{port}"),
            None => address.to_owned(),
        };
        let found = full.to_socket_addrs().map_err(|e| trouble(e.to_string()))?.next();
        let found = found.ok_or_else(|| trouble("it names no address".to_owned()))?;
        let server = tiny_http::Server::http(found).map_err(|e| trouble(e.to_string()))?;
        let server = Arc::new(server);
        let address = server.server_addr().to_ip().unwrap_or(found);
        let listening = Arc::clone(&server);
        let thread = std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            for request in listening.incoming_requests() {
                let accepts = request.headers().iter().find(|h| h.field.equiv("Accept"));
                let open = accepts.is_some_and(|h| h.value.as_str().contains("openmetrics"));
                let path = request.url().split('?').next().unwrap_or_default();
                let answer = match (request.method(), path) {
                    (Method::Get | Method::Head, "/metrics") => {
                        text(page(), 200, if open { OPEN_METRICS } else { PLAIN })
                    }
                    (Method::Get | Method::Head, "/") => {
                        text("snapkeep: see /metrics\n".to_owned(), 200, PLAIN)
                    }
                    (Method::Get | Method::Head, _) => text("not here\n".to_owned(), 404, PLAIN),
                    _ => text("only GET\n".to_owned(), 405, PLAIN),
                };
                // Who asked has gone; the next one is another.
                let _ = request.respond(answer);
            }
        });
        let thread = thread.map_err(|e| Error::io("cannot start a thread", &e))?;
        Ok(Server { server, thread: Some(thread), address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn text(body: String, code: u16, kind: &str) -> Response<std::io::Cursor<Vec<u8>>> {
    let response = Response::from_string(body).with_status_code(code);
    match Header::from_bytes("Content-Type", kind) {
        Ok(header) => response.with_header(header),
        Err(()) => response,
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            // It only answers questions; how it ended is nobody's concern.
            let _ = thread.join();
        }
    }
}
