//! Requests to other machines over HTTP: short, with an end in time, and without a word of secrets in what they say.
//!
//! The only home of the HTTP client. Certificates are judged by the roots that Mozilla ships, compiled in.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::time::Duration;
use ureq::Agent;
use ureq::http::Uri;

/// All of a request, name lookup included, takes at most this long.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// Of an answer, so much is read: it is only there to be shown when something went wrong.
const ANSWER_MAX: u64 = 16 << 10;

/// Where to. Its path and query may hold a token, so it is shown without.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// An `http` or `https` URL.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let uri: Uri = text.parse().map_err(|_| Error::invalid("this is no URL; use https://HOST/…"))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        if !matches!(scheme, "http" | "https") || uri.host().is_none_or(str::is_empty) {
            return Err(Error::invalid("this is no URL that can be asked; use https://HOST/…"));
        }
        Ok(Address(text.to_owned()))
    }

    /// The URL itself, secrets and all.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What stands below it: each part is one name, whatever letters it holds.
    #[must_use]
    pub fn below(&self, parts: &[&str]) -> Self {
        let mut url = self.0.trim_end_matches('/').to_owned();
        for part in parts {
            url.push('/');
            for byte in part.bytes() {
                match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    true => url.push(char::from(byte)),
                    false => url.push_str(&format!("%{byte:02X}")),
                }
            }
        }
        Address(url)
    }
}

/// Scheme, host and port.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri: Uri = self.0.parse().unwrap_or_default();
        let port = uri.port_u16().map(|p| format!(":{p}")).unwrap_or_default();
        write!(f, "{}://{}{port}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub code: u16,
    /// Its beginning.
    pub body: String,
}

/// A request that is being put together.
pub struct Request {
    method: &'static str,
    to: Address,
    headers: Vec<(String, String)>,
    timeout: Duration,
}

impl Request {
    fn new(method: &'static str, to: &Address) -> Self {
        Request { method, to: to.clone(), headers: Vec::new(), timeout: TIMEOUT }
    }

    pub fn get(to: &Address) -> Self {
        Request::new("GET", to)
    }

    pub fn post(to: &Address) -> Self {
        Request::new("POST", to)
    }

    pub fn put(to: &Address) -> Self {
        Request::new("PUT", to)
    }

    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it. Anything but a success is an error that says what was answered.
    pub fn send(self, body: &[u8]) -> Result<Answer> {
        let to = &self.to;
        let trouble = |why: String| Error::new(ErrorKind::Io, format!("{to}: {why}"));
        let config = Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            // A redirect could carry a token to another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("snapkeep/", env!("CARGO_PKG_VERSION")))
            .build();
        let mut request = ureq::http::Request::builder().method(self.method).uri(to.expose());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        // A header's value may be a secret, so nothing of it is told.
        let request =
            request.body(body).map_err(|_| trouble("a header cannot be sent as it is".to_owned()))?;
        let mut response = Agent::from(config).run(request).map_err(|e| trouble(plain(&e)))?;
        let code = response.status().as_u16();
        let read = response.body_mut().with_config().limit(ANSWER_MAX).lossy_utf8(true).read_to_string();
        let answer = Answer { code, body: read.unwrap_or_default() };
        match code {
            200..300 => Ok(answer),
            300..400 => Err(trouble(format!("it answered {code}, a redirect, which is not followed"))),
            _ => Err(trouble(format!("it answered {code}"))),
        }
    }
}

/// The client's words, without addresses.
fn plain(e: &ureq::Error) -> String {
    match e {
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::ConnectionFailed => "cannot connect".to_owned(),
        ureq::Error::Io(e) => Error::io("cannot connect", e).message().to_owned(),
        ureq::Error::Rustls(e) => format!("no safe connection: {e}"),
        ureq::Error::Tls(e) => format!("no safe connection: {e}"),
        _ => "the request could not be carried out".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_secret() {
        let url = Address::parse("https://user:pw@hooks.example.com:8443/services/T0/secret?token=x")
            .expect("a URL");
        assert_eq!(url.to_string(), "https://hooks.example.com:8443");
        assert!(!format!("{url:?}").contains("secret"));
        assert_eq!(
            Address::parse("http://a/b/").expect("a URL").below(&["x y", "ä"]).expose(),
            "http://a/b/x%20y/%C3%A4"
        );
        for wrong in ["ftp://a/b", "nothing", "http://", "/a"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
