//! Aeraki's own examples and demonstrations, where a copy of them lies beside a folder above this one, as `shared/aeraki`: they
//! are not this project's to carry. What they have taught is in `generate/aeraki.rs` and `resources/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ports of protocols that the shipped module has no codec for.
const NO_CODEC: [&str; 2] = ["tcp-metaprotocol-qza", "tcp-metaprotocol-videopacket"];

/// The files of a folder of the copy; none where there is no copy.
fn files(folder: &str) -> Vec<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let copy = above.map(|above| above.join("shared/aeraki")).find(|copy| copy.is_dir());
    let Some(copy) = copy else {
        eprintln!("nothing is tried: put Aeraki's YAML into a folder shared/aeraki beside the clone");
        return Vec::new();
    };
    let mut files: Vec<_> =
        fs::read_dir(copy.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

/// Runs the command on a file: exit code, standard output, standard error.
fn meltemi(command: &str, file: &Path, more: &[&str]) -> (i32, String, String) {
    let mut process = Command::new(assert_cmd::cargo::cargo_bin!("meltemi"));
    let output = process.arg(command).arg("-f").arg(file).args(more).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn generate(file: &Path, more: &[&str]) -> (i32, String, String) {
    let module = format!("oci://registry.example.org/meltemi@sha256:{}", "0a".repeat(32));
    meltemi("generate", file, &[&["--istio-version", "1.30", "--module", &module], more].concat())
}

#[test]
fn examples_are_valid_and_broken_ones_are_not() {
    for file in files("examples") {
        let (code, output, error) = meltemi("validate", &file, &[]);
        assert_eq!(code, 0, "{}: {error}", file.display());
        assert!(!output.starts_with("0 "), "{}: {output}", file.display());
    }
    for file in files("refused") {
        assert_eq!(meltemi("validate", &file, &[]).0, 1, "{}", file.display());
    }
}

#[test]
fn of_demonstrations_nothing_is_lost_in_silence() {
    let mut otherwise = Vec::new();
    for file in files("demos") {
        let text = fs::read_to_string(&file).unwrap();
        let lacks_codec = NO_CODEC.iter().any(|port| text.contains(port));
        let (code, output, error) = generate(&file, &[]);
        let mut wanted = |holds: bool, what: &str| {
            if !holds {
                otherwise.push(format!("{}: {what}: {error}", file.display()));
            }
        };
        // Nothing but a Secret that nobody has labelled stops a run.
        let by_secret = error.contains("kubectl label secret");
        wanted(code == i32::from(by_secret), "the exit code");
        wanted(!error.contains("no managed service has the host"), "the wrong mend");
        if lacks_codec {
            let named = error.contains("the module has no codec") || error.contains("no codec is known");
            wanted(named, "the missing codec");
            let routers = text.matches("kind: MetaRouter").count();
            wanted(error.matches("not in force").count() >= routers, "routers that are not in force");
        } else {
            let is_left = error.contains("left alone");
            wanted(by_secret || is_left || !output.is_empty(), "no object and no word");
            let limits = text.matches("localRateLimit:").count();
            wanted(output.matches("localRateLimit:").count() >= limits, "the rate limits");
            let asked = text.matches("globalRateLimit:").count();
            let made = output.matches("globalRateLimits:").count();
            wanted(made >= asked && !error.contains("globalRateLimit"), "the global rate limits");
            let mirrors = text.matches(" mirror:").count();
            let made = ["mirrors:", "request_mirror_policy:"].map(|field| output.matches(field).count());
            wanted(made.iter().sum::<usize>() >= mirrors && !error.contains(".mirror"), "the mirrors");
            // One of a subset is for the routes that name it.
            let hashes = text.lines().any(|line| line == "      consistentHash:");
            wanted(!hashes || output.contains("hashBy:"), "the hash");
            wanted(!error.contains("consistentHash"), "the word on the hash");
        }
    }
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n"));
}

/// With the codecs that they ask for, all of them make objects.
#[test]
fn demonstrations_need_only_their_codecs() {
    for file in files("demos") {
        let (_, output, error) =
            generate(&file, &["--keep-going", "--codecs", "dubbo,thrift,brpc,trpc,qza,videopacket"]);
        let is_told = error.contains("kubectl label secret") || error.contains("left alone");
        assert!(
            is_told || output.contains("WasmPlugin") || output.contains("EnvoyFilter"),
            "{}: {error}",
            file.display()
        );
    }
}
