//! Who pushes: what the command line says, else what `docker login` or `podman login` has left.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

/// How Docker's registry is called in the files that `docker login` writes.
const DOCKER_HUB: (&str, &str) = ("index.docker.io", "https://index.docker.io/v1/");

/// Why there are no credentials although some are to be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The standard input gave no password.
    #[error("cannot read the password from the standard input: {0}")]
    Password(io::Error),
    /// A file of `docker login` or `podman login` is there and cannot be used.
    #[error("cannot take the credentials for {registry} from {}: {why}; log in again, or use --username and --password-stdin", file.display())]
    Stored {
        /// The registry.
        registry: String,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// `username` with the password that is the next line of `input`.
///
/// # Errors
///
/// The input cannot be read, or is empty.
pub fn given(username: &str, mut input: impl Read) -> Result<RegistryAuth, Error> {
    let mut password = String::new();
    input.read_to_string(&mut password).map_err(Error::Password)?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Error::Password(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty")));
    }
    Ok(RegistryAuth::Basic(username.to_owned(), password.to_owned()))
}

/// What is stored for `registry` on this machine; [`RegistryAuth::Anonymous`] if nothing is.
///
/// # Errors
///
/// A file with credentials cannot be read, or the helper program that it names fails.
pub fn stored(registry: &str) -> Result<RegistryAuth, Error> {
    let server = if registry == DOCKER_HUB.0 { DOCKER_HUB.1 } else { registry };
    for path in files() {
        let wrong = |why: String| Error::Stored { registry: registry.to_owned(), file: path.clone(), why };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(wrong(error.to_string())),
        };
        match docker_credential::get_credential_from_reader(file, server) {
            Ok(DockerCredential::UsernamePassword(username, password)) => {
                return Ok(RegistryAuth::Basic(username, password));
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                return Err(wrong("it holds an identity token, which is not supported".to_owned()));
            }
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            // So a helper says that it keeps nothing for this registry.
            Err(CredentialRetrievalError::HelperFailure { stdout, .. })
                if stdout.contains("credentials not found") => {}
            Err(CredentialRetrievalError::HelperFailure { helper, stdout, stderr }) => {
                let said = [stdout, stderr].join(" ");
                return Err(wrong(format!("the helper {helper} fails: {}", said.trim())));
            }
            Err(error) => return Err(wrong(error.to_string())),
        }
    }
    Ok(RegistryAuth::Anonymous)
}

/// Where Docker and Podman keep credentials.
fn files() -> impl Iterator<Item = PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")));
    let podman = variable("REGISTRY_AUTH_FILE")
        .or_else(|| Some(variable("XDG_RUNTIME_DIR")?.join("containers/auth.json")));
    docker.map(|folder| folder.join("config.json")).into_iter().chain(podman)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_ends_with_its_line() {
        let basic = |password: &str| RegistryAuth::Basic("ada".to_owned(), password.to_owned());
        assert_eq!(given("ada", "se cret\r\n".as_bytes()).unwrap(), basic("se cret"));
        assert_eq!(given("ada", "secret".as_bytes()).unwrap(), basic("secret"));
        let error = given("ada", "\n".as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "cannot read the password from the standard input: it is empty");
    }
}
