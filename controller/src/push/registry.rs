//! The registry: what is sent to it, and what its refusals mean.

use std::error::Error as Cause;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use indicatif::ProgressBar;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciEnvelope};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

use super::image::{Blob, Image};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// How long the registry may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);

/// The steps in which a bar of progress moves.
const PIECE_BYTES: usize = 32 << 10;

/// Why the image is not in the registry.
#[derive(Debug, thiserror::Error)]
#[error("cannot push to {registry}: {why}{}", .mend.as_ref().map(|mend| format!("; {mend}")).unwrap_or_default())]
pub struct Error {
    registry: String,
    why: String,
    mend: Option<String>,
}

/// What to push to, and how.
#[derive(Debug)]
pub struct Registry<'a> {
    /// Registry, repository and tag.
    pub reference: &'a Reference,
    /// Who pushes.
    pub auth: &'a RegistryAuth,
    /// Whether to speak HTTP instead of HTTPS.
    pub plain_http: bool,
}

impl Registry<'_> {
    /// Pushes `image`. Blobs that the registry has are not sent again. `progress` counts their bytes.
    ///
    /// # Errors
    ///
    /// The registry cannot be reached, or refuses.
    pub async fn push(&self, image: &Image, progress: &ProgressBar) -> Result<(), Error> {
        self.send(image, progress).await.map_err(|error| self.explain(&error))
    }

    async fn send(&self, image: &Image, progress: &ProgressBar) -> Result<(), OciDistributionError> {
        let client = Client::new(ClientConfig {
            protocol: if self.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            // In one piece, as most clients do: not every registry takes the chunks of the specification.
            use_monolithic_push: true,
            connect_timeout: Some(CONNECT_LIMIT),
            read_timeout: Some(SILENCE_LIMIT),
            user_agent: concat!("meltemi/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        client.auth(self.reference, self.auth, RegistryOperation::Push).await?;
        for blob in [&image.layer, &image.config] {
            // What is wrong if the question fails, sending it will show better.
            if let Ok(true) = client.blob_exists(self.reference, &blob.digest).await {
                progress.inc(blob.data.len() as u64);
            } else {
                let len = blob.data.len() as u64;
                client
                    .push_blob_stream(self.reference, pieces(blob, progress), &blob.digest, Some(len))
                    .await?;
            }
        }
        let media_type = Image::MEDIA_TYPE
            .parse()
            .map_err(|_| OciDistributionError::UnsupportedMediaTypeError(Image::MEDIA_TYPE.to_owned()))?;
        client.push_manifest_raw(self.reference, image.manifest.data.clone(), media_type).await?;
        Ok(())
    }

    /// The error in the registry's words, with what to do about it.
    fn explain(&self, error: &OciDistributionError) -> Error {
        let registry = self.reference.registry().to_owned();
        let (status, why) = match error {
            OciDistributionError::ServerError { code, message, .. } => (Some(*code), words(*code, message)),
            OciDistributionError::RegistryError { envelope, .. } => (None, told(envelope)),
            OciDistributionError::UnauthorizedError { .. } => (Some(401), "it wants a login".to_owned()),
            OciDistributionError::AuthenticationFailure(message) => (Some(401), words(401, message)),
            OciDistributionError::RequestError(error) => {
                let status = error.status().map(|status| status.as_u16());
                (status, innermost(error))
            }
            other => (None, other.to_string()),
        };
        let mend = match status {
            Some(401) if *self.auth == RegistryAuth::Anonymous => {
                Some(format!("log in with `docker login {registry}`, or use --username and --password-stdin"))
            }
            Some(401) => Some("check the user name and the password".to_owned()),
            Some(403) => Some(format!("ask for the right to push to {}", self.reference.repository())),
            Some(404) => Some(format!("create the repository {} first", self.reference.repository())),
            Some(429) => Some("try again later".to_owned()),
            Some(400) if why.contains("HTTPS server") => Some("leave out --plain-http".to_owned()),
            Some(500..) => Some("try again; see the registry's log".to_owned()),
            Some(_) => None,
            None if why.contains("InvalidContentType") => {
                Some("it does not speak TLS there: use --plain-http if it is one of your own".to_owned())
            }
            None if why.contains("certificate") => Some(
                "add the authority that signed it to the system's, or name its file in SSL_CERT_FILE"
                    .to_owned(),
            ),
            None => match error {
                OciDistributionError::RequestError(error) if error.is_connect() || error.is_timeout() => {
                    Some("check the registry's name and port, and that it runs".to_owned())
                }
                _ => None,
            },
        };
        Error { registry, why, mend }
    }
}

/// The blob in pieces, each counted when it is taken.
fn pieces(
    blob: &Blob,
    progress: &ProgressBar,
) -> impl futures::Stream<Item = Result<Bytes, OciDistributionError>> + Send + 'static {
    let mut rest = Bytes::from(blob.data.clone());
    let progress = progress.clone();
    stream::iter(std::iter::from_fn(move || {
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        progress.inc(piece.len() as u64);
        (!piece.is_empty()).then_some(Ok(piece))
    }))
}

/// What the registry says in the body of an answer: errors as the distribution specification writes them, or else text.
fn words(status: u16, body: &str) -> String {
    match serde_json::from_str::<OciEnvelope>(body) {
        Ok(envelope) if !envelope.errors.is_empty() => told(&envelope),
        _ => match body.trim() {
            "" => format!("it answers with status {status}"),
            text => format!("it answers with status {status}: {text}"),
        },
    }
}

fn told(envelope: &OciEnvelope) -> String {
    let errors = envelope.errors.iter().map(|error| {
        let code = serde_json::to_value(&error.code).unwrap_or_default();
        let code = code.as_str().unwrap_or("error");
        if error.message.is_empty() { code.to_owned() } else { format!("{code}: {}", error.message) }
    });
    errors.collect::<Vec<_>>().join(", ")
}

/// The cause at the bottom, which says most: the others say that a request failed.
fn innermost(error: &dyn Cause) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
