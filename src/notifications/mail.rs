//! Mail by SMTP. The only home of `lettre`.

use super::Message;
use crate::error::{Error, ErrorKind, Result};
use crate::settings::plan_notify::{Mail, Tls as Way};
use crate::web::TIMEOUT;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{SmtpTransport, Transport};

/// Sends it; answers what the server said.
pub fn send(mail: &Mail, message: &Message) -> Result<String> {
    let letter = letter(mail, message)?;
    let trouble = |why: String| Error::new(ErrorKind::Io, format!("the mail server {}: {why}", mail.host));
    let (tls, usual) = match mail.tls {
        Way::None => (Tls::None, 25),
        Way::Starttls => (Tls::Required(parameters(mail)?), 587),
        Way::Tls => (Tls::Wrapper(parameters(mail)?), 465),
    };
    // Asking the machine for its full name is a look into the network, so the short one has to do.
    let name = ClientId::Domain(crate::os::process::host_name());
    let builder = SmtpTransport::builder_dangerous(&mail.host);
    let mut builder =
        builder.port(mail.port.unwrap_or(usual)).tls(tls).timeout(Some(TIMEOUT)).hello_name(name);
    if let (Some(user), Some(password)) = (&mail.user, &mail.password) {
        builder = builder.credentials(Credentials::new(user.clone(), password.read()?.to_string()));
    }
    let answer = builder.build().send(&letter).map_err(|e| trouble(e.to_string()))?;
    let first = answer.message().next().unwrap_or_default().to_owned();
    Ok(format!("{} {first}", answer.code()))
}

fn parameters(mail: &Mail) -> Result<TlsParameters> {
    TlsParameters::new(mail.host.clone())
        .map_err(|e| Error::new(ErrorKind::Io, format!("no safe way to {}: {e}", mail.host)))
}

fn letter(mail: &Mail, message: &Message) -> Result<lettre::Message> {
    let mailbox = |text: &str| -> Result<Mailbox> {
        text.parse().map_err(|_| Error::invalid(format!("`{text}` is no mail address")))
    };
    let mut builder = lettre::Message::builder()
        .from(mailbox(&mail.from)?)
        .subject(format!("[snapkeep] {}", message.title))
        .header(ContentType::TEXT_PLAIN)
        .header(header::MIME_VERSION_1_0);
    for to in mail.to.all() {
        builder = builder.to(mailbox(to)?);
    }
    if message.high {
        builder = builder.header(Urgent);
    }
    // SMTP's line ends; lettre encodes what is not ASCII.
    let body = message.text.replace('\n', "\r\n") + "\r\n";
    builder.body(body).map_err(|e| Error::invalid(format!("the mail cannot be written: {e}")))
}

/// `X-Priority: 1`, which mail programs show.
#[derive(Clone)]
struct Urgent;

impl header::Header for Urgent {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("X-Priority")
    }

    fn parse(_: &str) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Urgent)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "1".to_owned())
    }
}
