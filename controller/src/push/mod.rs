//! `meltemi push`: the module as an image in a registry, from where Istio's agents fetch it.

mod credentials;
mod image;
mod registry;

pub use credentials::Error as CredentialsError;
pub use image::{Blob, Image, Unfit};
pub use registry::Error as RegistryError;

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use oci_client::{ParseError, Reference};
use serde_json::json;

use crate::{module, screen};
use registry::Registry;

/// How image references begin in Istio's objects.
const SCHEME: &str = "oci://";

/// What the command line asks to be pushed, and where to.
#[derive(Debug, Args)]
pub struct Options {
    /// Where to: registry, repository and tag, such as `registry.example/rpc/meltemi:1.0`.
    reference: String,
    /// The Wasm module, instead of the one that MELTEMI_MODULE names or one that is built now.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Speak HTTP to the registry, not HTTPS.
    #[arg(long)]
    plain_http: bool,
    /// Log in to the registry as this user.
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Take the user's password from the standard input.
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// What to print: the image's name as a WasmPlugin's `url` takes it, or a JSON object that says more.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// What is printed about an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Format {
    /// One line: `oci://<registry>/<repository>@<digest>`.
    Text,
    /// One JSON object.
    Json,
}

/// Why nothing was pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The reference names no image.
    #[error("{reference} names no image: {why}; write <registry>/<repository>:<tag>")]
    Reference {
        /// What was given.
        reference: String,
        /// What is wrong with it.
        why: ParseError,
    },
    /// The reference holds a digest, which follows from the module.
    #[error("{0} holds a digest, and the module determines that; write <registry>/<repository>:<tag>")]
    Digest(String),
    /// There is no module.
    #[error(transparent)]
    Module(#[from] module::Error),
    /// The module cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The module.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no module that Istio could load.
    #[error("{} {why}", file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: Unfit,
    },
    /// There are no credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The system gives no runtime for the network.
    #[error("cannot use the network: {0}")]
    Runtime(io::Error),
    /// The registry cannot be reached, or refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Pushes the module and returns what is to be printed about it.
///
/// # Errors
///
/// There is no module that Istio could load, or the registry does not take it.
pub fn run(options: &Options) -> Result<String, Error> {
    let reference = parse(&options.reference)?;
    let progress = screen::progress("looking for the module");
    let file = module::find(options.module.as_deref(), &progress)?;
    progress.finish_and_clear();
    let module = fs::read(&file).map_err(|source| Error::Read { file: file.clone(), source })?;
    let image = Image::new(&module).map_err(|why| Error::Unfit { file, why })?;
    let auth = match &options.username {
        Some(username) => credentials::given(username, io::stdin().lock())?,
        None => credentials::stored(reference.resolve_registry())?,
    };

    // It fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let registry = Registry { reference: &reference, auth: &auth, plain_http: options.plain_http };
    let bytes = image.layer.data.len() + image.config.data.len();
    let progress = screen::transfer(&format!("pushing {}", reference.whole()), bytes as u64);
    let pushed = runtime.block_on(registry.push(&image, &progress));
    progress.finish_and_clear();
    pushed?;
    Ok(report(options.output, &reference, &image))
}

fn parse(text: &str) -> Result<Reference, Error> {
    let reference: Reference = text
        .strip_prefix(SCHEME)
        .unwrap_or(text)
        .parse()
        .map_err(|why| Error::Reference { reference: text.to_owned(), why })?;
    match reference.digest() {
        Some(_) => Err(Error::Digest(text.to_owned())),
        None => Ok(reference),
    }
}

fn report(format: Format, reference: &Reference, image: &Image) -> String {
    let digest = &image.manifest.digest;
    let url = format!("{SCHEME}{}/{}@{digest}", reference.registry(), reference.repository());
    match format {
        Format::Text => format!("{url}\n"),
        Format::Json => {
            let about = json!({
                "url": url,
                "registry": reference.registry(),
                "repository": reference.repository(),
                "tag": reference.tag(),
                "digest": digest,
                "mediaType": Image::MEDIA_TYPE,
                "layer": {"digest": image.layer.digest, "size": image.layer.data.len()},
            });
            format!("{about:#}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_those_of_docker() {
        let whole = |text: &str| parse(text).map(|reference| reference.whole()).map_err(|e| e.to_string());
        assert_eq!(whole("registry.example/rpc/meltemi:1").unwrap(), "registry.example/rpc/meltemi:1");
        assert_eq!(whole("oci://127.0.0.1:5000/meltemi").unwrap(), "127.0.0.1:5000/meltemi:latest");
        assert_eq!(whole("ada/meltemi:1").unwrap(), "docker.io/ada/meltemi:1");
        let error = whole("registry.example/Meltemi").unwrap_err();
        assert!(error.starts_with("registry.example/Meltemi names no image: "), "{error}");
        let digest = "0".repeat(64);
        let error = whole(&format!("registry.example/meltemi@sha256:{digest}")).unwrap_err();
        assert!(error.contains("holds a digest"), "{error}");
    }
}
