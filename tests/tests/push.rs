//! `meltemi push`, to a real registry of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use base64::Engine;
use flate2::read::GzDecoder;
use meltemi_tests::java::refusing_address;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::IMAGE_LAYER_GZIP_MEDIA_TYPE;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::Value;
use tempfile::TempDir;

/// `ada` with the password `secret`, as `htpasswd -B` writes it.
const USERS: &str = "ada:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A registry on a free port, which forgets everything when it is dropped.
struct Registry {
    process: Child,
    address: String,
    folder: TempDir,
}

impl Registry {
    fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    fn with_users() -> Self {
        Self::start_with(|folder| {
            fs::write(folder.join("users"), USERS).unwrap();
            format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", folder.join("users").display())
        })
    }

    fn with_certificate() -> Self {
        Self::start_with(|folder| {
            let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
            fs::write(folder.join("cert.pem"), key.cert.pem()).unwrap();
            fs::write(folder.join("key.pem"), key.signing_key.serialize_pem()).unwrap();
            let folder = folder.display();
            format!("  tls: {{certificate: {folder}/cert.pem, key: {folder}/key.pem}}\n")
        })
    }

    fn start_with(more: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let start = "version: 0.1\nstorage: {inmemory: {}}\nhttp:\n  addr: 127.0.0.1:0\n";
        fs::write(&config, start.to_owned() + &more(folder.path())).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("docker-registry: {error}; install it with `apt-get install docker-registry`")
            });
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines
            .by_ref()
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on ")?;
                Some(rest.split(['"', ',']).next()?.to_owned())
            })
            .expect("the registry listens");
        // It stops when nobody reads what it says.
        thread::spawn(move || lines.for_each(drop));
        Self { process, address, folder }
    }

    /// A command that pushes `module` there, as somebody who has logged in nowhere.
    fn push(&self, module: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meltemi-under-test"));
        command
            .args(["push", &format!("{}/rpc/meltemi:1.0", self.address), "--module"])
            .arg(module)
            .args(args)
            .env("DOCKER_CONFIG", self.folder.path())
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("XDG_RUNTIME_DIR")
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A module that is long enough for several pieces, as nothing repeats in it.
fn module(folder: &TempDir) -> std::path::PathBuf {
    let mut module = b"\0asm\x01\0\0\0proxy_abi_version_0_2_1".to_vec();
    let mut state = 1_u64;
    module.extend((0..200_000).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    }));
    let path = folder.path().join("meltemi.wasm");
    fs::write(&path, module).unwrap();
    path
}

fn run(mut command: Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What a client that knows nothing of this command gets: the layer's files by name, and the manifest's digest.
fn pull(url: &str) -> (BTreeMap<String, Vec<u8>>, String) {
    let reference: Reference = url.strip_prefix("oci://").unwrap().parse().unwrap();
    let client = Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let types = vec![IMAGE_LAYER_GZIP_MEDIA_TYPE];
    let image = runtime.block_on(client.pull(&reference, &RegistryAuth::Anonymous, types)).unwrap();
    assert_eq!(image.layers.len(), 1);
    let mut archive = tar::Archive::new(GzDecoder::new(&*image.layers[0].data));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
    });
    (entries.collect(), image.digest.unwrap())
}

#[test]
fn a_pushed_module_can_be_pulled_by_its_digest() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (registry, folder) = (Registry::start(), tempfile::tempdir().unwrap());
    let module = module(&folder);
    let (code, output, error) = run(registry.push(&module, &["--plain-http"]));
    assert_eq!(
        (code, error),
        (0, format!("looking for the module\npushing {}/rpc/meltemi:1.0\n", registry.address))
    );
    let url = output.strip_suffix('\n').unwrap();
    let digest = url.strip_prefix(&format!("oci://{}/rpc/meltemi@", registry.address)).unwrap();
    assert_eq!(meltemi::mesh::module(url).as_deref(), Ok(url));

    for name in [url, &format!("oci://{}/rpc/meltemi:1.0", registry.address)] {
        let (files, pulled) = pull(name);
        assert_eq!(pulled, digest);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["plugin.wasm"]);
        assert!(files["plugin.wasm"] == fs::read(&module).unwrap());
    }

    // Once more, when all is there already; and to a registry that has nothing.
    let (code, output, _) = run(registry.push(&module, &["--plain-http", "--output", "json"]));
    let about: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, &about["url"], &about["digest"]), (0, &url.into(), &digest.into()));
    assert_eq!((&about["tag"], &about["repository"]), (&"1.0".into(), &"rpc/meltemi".into()));
    let other = Registry::start();
    let (_, output, _) = run(other.push(&module, &["--plain-http"]));
    assert!(output.ends_with(&format!("@{digest}\n")), "{output}");
}

#[test]
fn credentials_are_given_or_those_of_a_login() {
    let (registry, folder) = (Registry::with_users(), tempfile::tempdir().unwrap());
    let module = module(&folder);
    let (code, output, error) = run(registry.push(&module, &["--plain-http"]));
    assert_eq!((code, output), (1, String::new()));
    let wanted = format!(
        "error: cannot push to {0}: UNAUTHORIZED: authentication required; log in with `docker login {0}`, or use \
         --username and --password-stdin\n",
        registry.address
    );
    assert!(error.ends_with(&wanted), "{error}");

    let with_password = |password: &str| {
        let mut command = registry.push(&module, &["--plain-http", "--username", "ada", "--password-stdin"]);
        let file = folder.path().join("password");
        fs::write(&file, password).unwrap();
        command.stdin(fs::File::open(file).unwrap());
        run(command)
    };
    let (code, _, error) = with_password("wrong\n");
    assert_eq!(code, 1);
    assert!(error.ends_with("; check the user name and the password\n"), "{error}");
    assert_eq!(with_password("secret\n").0, 0);

    let login = base64::engine::general_purpose::STANDARD.encode("ada:secret");
    let logins = serde_json::json!({"auths": {&registry.address: {"auth": login}}});
    fs::write(registry.folder.path().join("config.json"), logins.to_string()).unwrap();
    assert_eq!(run(registry.push(&module, &["--plain-http"])).0, 0);
    fs::write(registry.folder.path().join("config.json"), "{").unwrap();
    let (code, _, error) = run(registry.push(&module, &["--plain-http"]));
    assert!(code == 1 && error.contains("config.json: Unable to read config; log in again"), "{error}");
}

#[test]
fn certificates_are_checked() {
    let (registry, folder) = (Registry::with_certificate(), tempfile::tempdir().unwrap());
    let module = module(&folder);
    let (code, _, error) = run(registry.push(&module, &[]));
    assert!(code == 1 && error.contains("certificate") && error.contains("SSL_CERT_FILE"), "{error}");
    let mut command = registry.push(&module, &[]);
    command.env("SSL_CERT_FILE", registry.folder.path().join("cert.pem"));
    let (code, output, error) = run(command);
    assert!(code == 0 && output.starts_with("oci://"), "{error}");
    let (code, _, error) = run(registry.push(&module, &["--plain-http"]));
    assert!(code == 1 && error.ends_with("; leave out --plain-http\n"), "{error}");
}

#[test]
fn errors_name_the_mend() {
    let (registry, folder) = (Registry::start(), tempfile::tempdir().unwrap());
    let (code, _, error) = run(registry.push(&module(&folder), &[]));
    assert!(code == 1 && error.contains("use --plain-http if"), "{error}");

    let text = folder.path().join("text");
    fs::write(&text, "no module").unwrap();
    let (code, _, error) = run(registry.push(&text, &["--plain-http"]));
    assert!(
        code == 1 && error.contains("text is not a WebAssembly module; build one with `cargo wasm`"),
        "{error}"
    );

    let mut gone = Registry::start();
    gone.address = refusing_address().to_string();
    let (code, _, error) = run(gone.push(&module(&folder), &["--plain-http"]));
    assert!(code == 1 && error.contains("refused") && error.contains("check the registry's name"), "{error}");

    let mut command = registry.push(&module(&folder), &["--plain-http"]);
    command.args(["--username", "ada"]);
    let (code, _, error) = run(command);
    assert!(code == 2 && error.contains("--password-stdin"), "{error}");
}
