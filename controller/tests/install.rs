//! The manifests in `istio-samples/install` are those that the command makes.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

use assert_cmd::Command;
use meltemi::generate::{Delivery, ForeignRouters};
use meltemi::install::{Settings, files, kustomization, yaml};
use meltemi::mesh::{Delivered, Mesh};
use serde_json::Value;

const MODULE: &str = "oci://registry.example.org/meltemi@sha256:6f0d0c2b0a8f4f2f9d6d3a9f0b1c2d3e4f5061728394a5b6c7d8e9f001122334";

const IMAGE: &str = "registry.example.org/meltemi:0.1";

const HEADER: &str =
    "# Made by `meltemi install --dry-run`. Its images of registry.example.org are placeholders for yours.\n";

fn settings() -> Settings {
    Settings {
        image: IMAGE.to_owned(),
        module: MODULE.to_owned(),
        delivered: Delivered {
            module_sha256: None,
            image_pull_secret: None,
            delivery: Delivery::WasmPlugin,
            instance: None,
        },
        istio_version: None,
        mesh: Mesh {
            codecs: Vec::new(),
            root_namespace: "istio-system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            any_secret: false,
            foreign_routers: ForeignRouters::OwnClients,
            istio_metrics: false,
            access_log: None,
        },
        namespace: "meltemi-system".to_owned(),
        redis_secrets: Vec::new(),
        dashboard: false,
        replicas: 2,
    }
}

/// `UPDATE_SAMPLES=1` writes them anew.
#[test]
fn the_manifests_are_in_step() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio-samples/install");
    let files = files(&settings());
    let list = format!("{HEADER}{}", serde_saphyr::to_string(&kustomization(&files)).unwrap());
    let texts = files.iter().map(|file| (file.name, format!("{HEADER}{}", yaml(file).unwrap())));
    for (name, text) in texts.chain([("kustomization.yaml", list)]) {
        let path = folder.join(name);
        if env::var_os("UPDATE_SAMPLES").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{} is out of step: run this test with UPDATE_SAMPLES=1", path.display());
    }
}

#[test]
fn the_command_prints_the_manifests() {
    let output = Command::new(env!("CARGO_BIN_EXE_meltemi"))
        .args(["install", "--dry-run", "--image", IMAGE, "--module", MODULE])
        .args(["--istio-version", "1.30", "--replicas", "3", "--codecs", "dubbo,courier"])
        .args(["--delivery", "extension-config", "--foreign-routers", "all", "--dashboard"])
        .env_remove("KUBECONFIG")
        .assert()
        .success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    let objects: Vec<Value> =
        meltemi::world::documents("-", &text).unwrap().into_iter().map(|document| document.object).collect();
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    assert_eq!(deployment["spec"]["replicas"], 3);
    let arguments = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    let arguments: Vec<&str> = arguments.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(arguments.contains(&format!("--module={MODULE}").as_str()), "{arguments:?}");
    for flag in [
        "--istio-version=1.30",
        "--codecs=dubbo,courier",
        "--delivery=extension-config",
        "--foreign-routers=all",
        "--dashboard-listen=0.0.0.0:8443",
    ] {
        assert!(arguments.contains(&flag), "{flag}: {arguments:?}");
    }
    // The controller understands what the Deployment says.
    Command::new(env!("CARGO_BIN_EXE_meltemi")).args(arguments).arg("--help").assert().success();
}

/// Sidecars before Istio 1.30 count by metrics whose labels have to be named.
#[test]
fn labels_of_metrics_are_told_where_they_may_be_needed() {
    let told = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meltemi"));
        command.args(["install", "--dry-run", "--image", IMAGE, "--module", MODULE]).args(flags);
        let output = command.env("KUBECONFIG", "/nowhere").assert().success();
        let text = String::from_utf8(output.get_output().stderr.clone()).unwrap();
        text.lines()
            .find_map(|line| Some(line.split_once("add to defaultConfig.extraStatTags, ")?.1.to_owned()))
    };
    let all = format!("and restart the pods: {}", meltemi_proxy::labels().join(", "));
    for (flags, expected) in [
        (&["--istio-metrics", "--istio-version", "1.29"][..], Some(&all)),
        (&["--istio-metrics"], Some(&all)),
        (&["--istio-metrics", "--istio-version", "1.30"], None),
        (&["--istio-version", "1.29"], None),
    ] {
        assert_eq!(told(flags).as_ref(), expected, "{flags:?}");
    }
}

#[test]
fn image_and_module_have_to_be_named() {
    for named in [
        &["--image", IMAGE][..],
        &["--module", MODULE],
        &["--image", IMAGE, "--module", "oci://a/b:1"],
        &["--image", IMAGE, "--module", &MODULE[..MODULE.len() - 1]],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meltemi"));
        command.args(["install", "--dry-run"]).args(named).assert().code(2);
    }
}

/// No wildcard, and no right over what the controller never touches.
#[test]
fn the_rights_are_few() {
    let files = files(&settings());
    let objects = files.iter().flat_map(|file| &file.objects);
    let rules = objects.filter_map(|object| object["rules"].as_array().filter(|_| is_role(object))).flatten();
    for rule in rules {
        let list = |field: &str| -> Vec<&str> {
            rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let (resources, verbs) = (list("resources"), list("verbs"));
        assert!(!resources.contains(&"*") && !verbs.contains(&"*") && !list("apiGroups").contains(&"*"));
        if resources.contains(&"secrets") {
            assert!(verbs.iter().all(|verb| ["get", "patch"].contains(verb)), "{rule}");
            assert_eq!(list("resourceNames"), ["meltemi-webhook"], "{rule}");
        }
    }
}

/// What an installation consists of, as `Kind namespace/name`.
fn names(settings: &Settings) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let objects = files(settings).into_iter().flat_map(|file| file.objects);
    let name = |object: Value| {
        let metadata = &object["metadata"];
        format!("{} {}/{}", text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
    };
    objects.map(name).collect()
}

#[test]
fn secrets_may_be_read_where_that_is_asked_for() {
    let none = names(&settings());
    let with = |namespaces: &[&str]| {
        let redis_secrets = namespaces.iter().map(|&name| name.to_owned()).collect();
        names(&Settings { redis_secrets, ..settings() })
    };
    let more = |namespaces: &[&str]| Vec::from_iter(with(namespaces).difference(&none).cloned());
    let wanted = ["shop", "web"].map(|namespace| format!("Role {namespace}/meltemi-passwords"));
    let bindings = ["shop", "web"].map(|namespace| format!("RoleBinding {namespace}/meltemi-passwords"));
    assert_eq!(more(&["shop", "web"]), [wanted, bindings].concat());
    let everywhere = ["ClusterRole /meltemi-passwords", "ClusterRoleBinding /meltemi-passwords"];
    assert_eq!(more(&["*"]), everywhere);
}

#[test]
fn two_installations_have_nothing_in_common_but_the_kinds() {
    let one = names(&settings());
    let two = names(&Settings { namespace: "canary".to_owned(), ..settings() });
    let common: Vec<&String> = one.intersection(&two).collect();
    let is_kind = |name: &&String| name.starts_with("CustomResourceDefinition ");
    assert!(!common.is_empty() && common.iter().all(is_kind), "{common:?}");
    assert_eq!(one.len(), two.len());

    let flags = |namespace: &str| {
        let files = files(&Settings { namespace: namespace.to_owned(), ..settings() });
        let mut objects = files.into_iter().flat_map(|file| file.objects);
        let deployment = objects.find(|object| object["kind"] == "Deployment").unwrap();
        deployment["spec"]["template"]["spec"]["containers"][0]["args"].to_string()
    };
    assert!(!flags("meltemi-system").contains("--webhook-configuration"));
    assert!(flags("canary").contains("--webhook-configuration=meltemi-canary"));
}

#[test]
fn the_dashboard_is_served_where_that_is_asked_for() {
    let with =
        |namespace: &str, dashboard| Settings { namespace: namespace.to_owned(), dashboard, ..settings() };
    let more = |namespace: &str| {
        let (all, none) = (names(&with(namespace, true)), names(&with(namespace, false)));
        Vec::from_iter(all.difference(&none).cloned())
    };
    assert_eq!(
        more("meltemi-system"),
        ["ClusterRole /meltemi-dashboard", "Service meltemi-system/meltemi-dashboard"]
    );
    assert_eq!(more("canary"), ["ClusterRole /meltemi-dashboard-canary", "Service canary/meltemi-dashboard"]);
    let rights = |dashboard| {
        let objects = files(&with("meltemi-system", dashboard)).into_iter().flat_map(|file| file.objects);
        let rules = objects.filter(is_role).map(|role| role["rules"].to_string());
        rules.collect::<String>()
    };
    for right in ["tokenreviews", "subjectaccessreviews", "pods/portforward", "/meltemi/dashboard"] {
        assert!(rights(true).contains(right) && !rights(false).contains(right), "{right}");
    }
}

#[test]
fn the_network_policy_is_of_the_pods_and_their_ports() {
    for dashboard in [false, true] {
        network_policy_is_in_step(&Settings { dashboard, ..settings() });
    }
}

fn network_policy_is_in_step(settings: &Settings) {
    let objects: Vec<Value> = files(settings).into_iter().flat_map(|file| file.objects).collect();
    let kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    let (policy, template) = (&kind("NetworkPolicy")["spec"], &kind("Deployment")["spec"]["template"]);
    for (label, value) in policy["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(template["metadata"]["labels"][label], *value);
    }
    let ports = |value: &Value, field: &str| -> BTreeSet<String> {
        value.as_array().unwrap().iter().map(|port| port[field].as_str().unwrap().to_owned()).collect()
    };
    let of_pods = ports(&template["spec"]["containers"][0]["ports"], "name");
    let rules = policy["ingress"].as_array().unwrap().iter();
    assert_eq!(rules.flat_map(|rule| ports(&rule["ports"], "port")).collect::<BTreeSet<_>>(), of_pods);
}

fn is_role(object: &Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| kind.ends_with("Role"))
}
