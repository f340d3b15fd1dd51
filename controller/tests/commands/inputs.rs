//! What the commands read, what they say of what they cannot read, and how much they say they checked.

use std::fs;

use assert_cmd::Command;

use crate::meltemi;

/// As they are in git: no namespace, no address.
const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: greeter}
spec:
  selector: {app: greeter}
  ports: [{name: tcp-dubbo, port: 20880}]
";

const ROUTER: &str = "\
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {name: greeter}
spec:
  hosts: [greeter.shop.svc.cluster.local]
  routes:
  - {name: all, route: [{destination: {host: greeter}}], timeout: 2s}
";

const DEPLOYMENT: &str = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: greeter}}\n";

fn digest() -> String {
    format!("oci://registry.example.org/meltemi@sha256:{}", "0a".repeat(32))
}

#[test]
fn validate_says_how_much_it_checked() {
    let other = DEPLOYMENT.replace("greeter", "other");
    let all = format!("{SERVICE}---\n{ROUTER}---\n{DEPLOYMENT}---\n{other}");
    let told = "2 resources checked, 2 of other kinds\n";
    assert_eq!(meltemi(&["validate", "-n", "shop", "-"], &all), (0, told.into(), String::new()));
    assert_eq!(meltemi(&["validate", "-"], r#"{"services": {}}"#).1, "1 plan checked\n");
    assert_eq!(meltemi(&["validate", "-"], DEPLOYMENT).1, "0 resources checked, 1 of other kinds\n");
    // What is written for programs has nothing else in it.
    assert_eq!(
        meltemi(&["validate", "-n", "shop", "-o", "json", "-"], &all),
        (0, "[]\n".into(), String::new())
    );
}

#[test]
fn nothing_to_check_is_no_success() {
    for nothing in ["", "\n", "# a comment\n", "---\n"] {
        let (code, _, error) = meltemi(&["validate", "-"], nothing);
        assert_eq!(code, 1, "{nothing:?}");
        assert!(error.starts_with("error: -: is empty, neither a plan nor a resource"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let told = format!("error: {path} has no file that ends in .yaml, .yml or .json\n");
    assert_eq!(meltemi(&["validate", path], ""), (1, String::new(), told));
    fs::write(folder.path().join("values.yaml"), "image: {tag: v1}\n").unwrap();
    let (code, output, error) = meltemi(&["validate", path], "");
    assert_eq!((code, &*output), (1, "0 resources checked, 1 file with neither\n"));
    assert_eq!(error, "error: nothing to check: neither a resource nor a plan\n");
}

#[test]
fn kinds_and_versions_that_are_none_are_refused() {
    for (from, to, says) in [
        (
            "MetaRouter",
            "Metarouter",
            "-:2:1: kind: meltemi.io has no kind \"Metarouter\"; did you mean MetaRouter?",
        ),
        (
            "v1alpha1",
            "v2",
            "-:1:1: apiVersion: MetaRouter has no version \"meltemi.io/v2\"; write meltemi.io/v1alpha1",
        ),
        (
            "meltemi.io/v1alpha1",
            "aeraki.io/v1",
            "-:1:1: apiVersion: no group of this name has kinds; did you mean MetaRouter in meltemi.io/v1alpha1?",
        ),
    ] {
        let (code, _, error) = meltemi(&["validate", "-"], &ROUTER.replacen(from, to, 1));
        assert_eq!(code, 1);
        assert!(error.contains(&format!("error: {says}\n")), "{says} is not in {error}");
    }
}

#[test]
fn names_are_checked_as_the_api_server_does() {
    for (name, says) in [
        ("Greeter", "metadata.name: \"Greeter\" is not a valid name; write up to 253 lower-case letters"),
        ("''", "metadata.name: is missing; write one"),
        ("greeter, namespace: a.b", "metadata.namespace: \"a.b\" is not a valid name; write up to 63"),
    ] {
        let router = ROUTER.replace("metadata: {name: greeter}", &format!("metadata: {{name: {name}}}"));
        let (code, _, error) = meltemi(&["validate", "-"], &router);
        assert!(code == 1 && error.contains(says), "{says} is not in {error}");
    }
}

#[test]
fn names_cannot_forge_lines_or_steer_a_terminal() {
    let name = r#"{name: "a\e[31mRED\n::error file=x::forged\rb\u202E"}"#;
    let router = ROUTER.replace("{name: greeter}", name).replace("name: all", r#"name: "x\n::warning::y""#);
    let input = format!("{SERVICE}---\n{router}---\n{router}");
    let module = digest();
    let objects = ["--istio-version", "1.30", "--module", &module];
    for args in [
        &["validate", "-n", "shop", "-"][..],
        &["validate", "-n", "shop", "-o", "table", "-"],
        &["explain", "-n", "shop", "--host", "greeter", "-"],
        &[&["generate", "-n", "shop", "--keep-going", "-o", "table", "-"][..], &objects].concat(),
        &[&["diff", "-n", "shop", "--against", "/", "-"][..], &objects].concat(),
    ] {
        let (_, output, error) = meltemi(args, &input);
        let told = format!("{output}{error}");
        assert!(told.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{args:?}: {told:?}");
        assert!(told.lines().all(|line| !line.trim_start().starts_with("::")), "{args:?}: {told}");
    }
}

#[test]
fn libraries_have_no_say() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, says) in [
        (
            "twice.yaml",
            "kind: a\napiVersion: b\nkind: c\n",
            ":3:1: duplicate key \"kind\"; keep one of the two",
        ),
        ("tab.yaml", "apiVersion: v1\nkind:\n\tService\n", ":3:"),
        ("plan.yaml", "services:\n\ta: {}\n", ":2:"),
        (
            "plan.json",
            r#"{"services": {"a": {"protocol": "dubbo", "onNoMatch": "Reject"}}}"#,
            "did you mean reject?",
        ),
        (
            "other.yaml",
            "hello: world\n",
            ": is neither a plan nor a resource: a plan has services, a resource apiVersion",
        ),
        (
            "variant.yaml",
            &ROUTER.replace("  routes:", "  onNoMatch: Reject\n  routes:"),
            "spec.onNoMatch: \"Reject\" is none of its values; did you mean reject?",
        ),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let (code, _, error) = meltemi(&["validate", path.to_str().unwrap()], "");
        assert_eq!(code, 1, "{name}");
        let error = error.replace(path.to_str().unwrap(), "");
        assert!(error.contains(says), "{says} is not in {error}");
        for word in ["DuplicateKeyPolicy", "unknown variant", "`", "at line", "expected struct"] {
            assert!(!error.contains(word), "{word} is in {error}");
        }
    }
    for plan in ["unknownAuthority: refuse\n", "{\"memoryBudgetBytes\": 268435456}\n"] {
        let (code, output, _) = meltemi(&["validate", "-"], plan);
        assert_eq!((code, &*output), (0, "1 plan checked\n"), "{plan}");
    }
    let (_, _, error) = meltemi(&["validate", "-"], "hello: world\n");
    assert!(error.starts_with("error: -: is neither a plan nor a resource"), "{error}");
}

#[test]
fn files_are_named_as_for_kubectl() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir(root.join("below")).unwrap();
    fs::write(root.join("service.yaml"), SERVICE).unwrap();
    fs::write(root.join("below/router.yaml"), ROUTER).unwrap();
    let (root, service, below) = (root.to_str().unwrap(), root.join("service.yaml"), root.join("below"));
    let (service, below) = (service.to_str().unwrap(), below.to_str().unwrap());
    for (args, checked) in [
        (&["-f", root][..], 1),
        (&["-R", "-f", root], 2),
        (&[root], 2),
        (&["-f", service, "--filename", below], 2),
        (&["-f", service, below], 2),
    ] {
        let (code, output, error) = meltemi(&[&["validate", "--namespace", "shop"], args].concat(), "");
        let told = format!("{checked} resource{} checked\n", if checked == 1 { "" } else { "s" });
        assert_eq!((code, output, error), (0, told, String::new()), "{args:?}");
    }
    let module = digest();
    let objects = ["--istio-version", "1.30", "--module", &module, "-n", "shop", "-R", "-f", root];
    let (code, output, _) = meltemi(&[&["generate"], &objects[..]].concat(), "");
    assert!(code == 0 && output.contains("inbound.greeter.shop.svc.cluster.local:20880"), "{output}");
    let (code, output, _) = meltemi(&["explain", "-n", "shop", "-R", "-f", root, "--host", "greeter"], "");
    assert!(code == 0 && output.contains("✓ shop/greeter/all"), "{output}");
    let into = folder.path().join("generated");
    fs::create_dir(&into).unwrap();
    let against = ["diff", "--against", into.to_str().unwrap()];
    let (code, output, _) = meltemi(&[&against[..], &objects].concat(), "");
    assert!(code == 1 && output.contains("+++ WasmPlugin shop/meltemi"), "{output}");
    assert_eq!(meltemi(&["validate"], "").0, 2);
    assert_eq!(meltemi(&["validate", "-R", root], "").0, 2);
}

#[test]
fn variants_in_a_folder_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("v1.yaml"), ROUTER).unwrap();
    fs::write(folder.path().join("v2.yaml"), ROUTER.replace("2s", "3s")).unwrap();
    let (code, _, error) = meltemi(&["validate", folder.path().to_str().unwrap()], "");
    assert_eq!(code, 1);
    let mend = "v1.yaml:1; name one of the two files, not the folder of both";
    assert!(error.contains(mend), "{error}");
}

#[test]
fn many_findings_alike_are_summed_up() {
    let route = |at: usize| {
        format!(
            "  - {{name: r{at}, match: {{attributes: {{a: {{exact: x{at}}}}}}}, route: [{{destination: {{host: greeter, subset: v{at}}}}}]}}\n"
        )
    };
    let head = ROUTER.split_once("  - {").unwrap().0;
    let input = format!("{SERVICE}---\n{head}{}", (0..500).map(route).collect::<String>());
    let (code, _, error) = meltemi(&["validate", "-n", "shop", "-"], &input);
    assert_eq!(code, 0, "{error}");
    assert_eq!(error.lines().filter(|line| line.starts_with("warning: ")).count(), 10, "{error}");
    let sum = "490 more of the same: spec.routes[].route[].destination.subset: no DestinationRule defines the subset …\n";
    assert!(error.ends_with(sum), "{error}");
}

/// Addresses are the cluster's: without them, calls are explained all the same, and what servers get is written.
#[test]
fn services_are_managed_as_they_stand_in_git() {
    let headless = SERVICE.replace("greeter", "pods").replace("spec:", "spec:\n  clusterIP: None");
    let input = format!("{SERVICE}---\n{headless}---\n{ROUTER}");
    for (host, says) in [("greeter.shop", "✓ shop/greeter/all"), ("pods.shop", "it takes the default route")]
    {
        let (code, output, error) = meltemi(&["explain", "-n", "shop", "--host", host, "-"], &input);
        assert_eq!((code, &*error), (0, ""));
        assert!(output.contains(says), "{output}");
    }
    let more: String =
        (0..3).map(|at| format!("---\n{}", SERVICE.replace("greeter", &format!("other-{at}")))).collect();
    let module = digest();
    let args = ["generate", "-n", "shop", "--istio-version", "1.30", "--module", &module, "-"];
    let (code, output, error) = meltemi(&args, &format!("{SERVICE}{more}---\n{ROUTER}"));
    assert_eq!(code, 0, "{error}");
    assert!(output.contains("inbound.other-2.shop.svc.cluster.local:20880"), "{output}");
    let said: Vec<&str> = error.lines().filter(|line| line.contains("address")).collect();
    assert_eq!(said.len(), 1, "{error}");
    for part in ["warning: 4 services have no address", "Service shop/greeter", "kubectl get services"] {
        assert!(said[0].contains(part), "{part} is not in {error}");
    }
}

#[test]
fn help_and_version_can_be_asked_for() {
    for args in [&["help"][..], &["--help"]] {
        let (code, output, _) = meltemi(args, "");
        assert!(code == 0 && output.contains("explain"), "{output}");
    }
    let (code, output, _) = meltemi(&["help", "validate"], "");
    assert!(code == 0 && output.contains("--filename"), "{output}");
    let version = format!("meltemi {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(meltemi(&["version"], ""), (0, version.clone(), String::new()));
    assert_eq!(meltemi(&["--version"], "").1, version);
}

/// The same resources, with a mistake in each.
#[test]
fn mistakes_are_told_with_their_mend() {
    let folder = tempfile::tempdir().unwrap();
    let all = format!("{SERVICE}---\n{ROUTER}");
    let quote = all.replace("kind: MetaRouter", "kind: 'MetaRouter");
    let indented = all.replace("  hosts:", "   hosts:");
    let kind = all.replace("kind: Service", "kind: service");
    let port = all.replace("port: 20880", "port: 208800");
    let no_port = all.replace(", port: 20880", "");
    let binary = [b"\x7fELF\x02\x01".as_slice(), &[0xff; 100]].concat();
    for (name, bytes, says) in [
        ("quote.yaml", quote.as_bytes(), "; a quote is not closed where it should be"),
        (
            "indented.yaml",
            indented.as_bytes(),
            ":13:3: not YAML: while parsing a block mapping, did not find expected key; ",
        ),
        ("kind.yaml", kind.as_bytes(), ":2:1: kind: v1 has no kind \"service\"; did you mean Service?"),
        (
            "port.yaml",
            port.as_bytes(),
            ":6:29: spec.ports[0].port: 208800 is not a port; write one of 1 to 65535",
        ),
        ("no-port.yaml", no_port.as_bytes(), ": 0 is not a port; write one of 1 to 65535"),
        ("binary.yaml", &binary, "binary.yaml: it is not UTF-8 text: binary, or saved in another encoding"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let (code, _, error) = meltemi(&["validate", "-n", "shop", path.to_str().unwrap()], "");
        assert_eq!(code, 1, "{name}");
        assert!(error.contains(says), "{says} is not in {error}");
    }
    // What editors put before and behind lines is no mistake.
    for (name, text) in [("bom.yaml", format!("\u{feff}{all}")), ("crlf.yaml", all.replace('\n', "\r\n"))] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let told = meltemi(&["validate", "-n", "shop", path.to_str().unwrap()], "");
        assert_eq!(told, (0, "2 resources checked\n".to_owned(), String::new()), "{name}");
    }
    let (_, _, error) = meltemi(&["validate", "/no/such.yaml"], "");
    assert_eq!(error, "error: cannot read /no/such.yaml: No such file or directory\n");
}

#[test]
fn nothing_is_generated_of_nothing() {
    let module = digest();
    let objects = ["--istio-version", "1.30", "--module", &module];
    for nothing in ["", "# a comment\n", "apiVersion: v1\nkind: List\nitems: []\n"] {
        for args in [[&["generate", "-"], &objects[..]].concat(), vec!["explain", "--host", "greeter", "-"]] {
            let (code, output, error) = meltemi(&args, nothing);
            assert!(code != 0 && output.is_empty(), "{args:?} {nothing:?}");
            let says = "error: there is no resource in what is to be read: is it the right file, folder or context?\n";
            assert_eq!(error, says, "{args:?}");
        }
    }
}

#[test]
fn arguments_are_checked_before_anything_is_read() {
    let (code, _, error) = meltemi(&["validate", "-n", "Sh op", "-"], SERVICE);
    assert!(
        code == 2 && error.contains("write up to 63 lower-case letters, digits and inner hyphens"),
        "{error}"
    );
    let (code, _, error) = meltemi(&["explain", "--gateway", "edge", "-"], SERVICE);
    assert!(code == 2 && error.contains("write namespace/name, as in istio-system/edge"), "{error}");
}

#[test]
fn clusters_that_are_not_there_are_told_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
        contexts: [{name: c, context: {cluster: k, user: u}}]\n\
        clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {}}]\n";
    let module = digest();
    let diff = ["diff", "--against", "cluster", "--istio-version", "1.30", "--module", &module, "-"];
    let install = ["install", "--image", "registry.example.org/meltemi@sha256:0", "--module", &module];
    for (text, says) in [
        (None, "No such file or directory; set KUBECONFIG to use another kubeconfig"),
        (Some("{{{"), "; set KUBECONFIG to use another kubeconfig"),
        (Some(text), "the API server of the kubeconfig does not answer: Connection refused"),
    ] {
        if let Some(text) = text {
            fs::write(&kubeconfig, text).unwrap();
        }
        for args in [&diff[..], &install] {
            let mut command = Command::cargo_bin("meltemi").unwrap();
            let command =
                command.args(args).env("KUBECONFIG", &kubeconfig).env_remove("KUBERNETES_SERVICE_HOST");
            let output = command.write_stdin(SERVICE).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            let last = error.lines().last().unwrap();
            assert!(
                !output.status.success() && last.starts_with("error: ") && last.contains(says),
                "{error}"
            );
            for word in ["os error", "infer", "ServiceError", "incluster"] {
                assert!(!error.contains(word), "{word} is in {error}");
            }
        }
    }
}
