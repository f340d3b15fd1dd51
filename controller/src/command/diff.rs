use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::{Inputs, Objects, findings, takeover};
use crate::generate::{INSTANCE, MANAGED_BY, Object, Takeover, takeovers, unpack};
use crate::input::{self, Depth, Resources};
use crate::kinds;
use crate::plain::Plain;
use crate::screen;
use crate::words;

/// Compares generated objects with those that are there.
#[derive(Debug, Args)]
pub struct Diff {
    #[command(flatten)]
    inputs: Inputs,
    /// What the objects are compared with: a file or a folder, or `cluster`, which is that of the kubeconfig.
    #[arg(long, value_name = "FOLDER|cluster")]
    against: PathBuf,
    #[command(flatten)]
    objects: Objects,
}

/// An object by kind, namespace and name.
type Key = (String, String, String);

/// Where a patch has its plan, as text, with `--delivery extension-config`.
const PLAN_OF_PATCH: &str = "/patch/value/typed_config/config/configuration/value";

/// Lines around a change.
const CONTEXT: usize = 3;

impl Diff {
    /// Writes the differences from what is there to what is generated, and reports which ports it would take over anew.
    /// The exit code is that of diff(1): 0 if there are none, 1 if there are some, 2 in trouble.
    pub fn run(&self) -> ExitCode {
        match self.differs() {
            Ok(false) => ExitCode::SUCCESS,
            Ok(true) => ExitCode::from(1),
            Err(why) => {
                screen::fail(why);
                ExitCode::from(2)
            }
        }
    }

    fn differs(&self) -> Result<bool, String> {
        let options = self.objects.options()?;
        let resources = Resources::new(&self.inputs.read()?, &self.inputs.namespace);
        let (output, found) = resources.generate(&options);
        if findings::has_errors(&found) {
            findings::tell(&found);
            return Err("resources are in error; nothing is compared".into());
        }
        let there = match self.against.as_os_str() == "cluster" {
            true => in_cluster()?,
            false => in_files(&self.against)?,
        };
        let generated: BTreeMap<Key, Value> = output.objects.iter().filter_map(generated).collect();
        let is_known = |port: &Takeover| is_taken_over(port, there.values());
        takeover::tell(takeovers(&resources.world, &options).iter().filter(|port| !is_known(port)));
        let mut differs = false;
        let mut keys: Vec<&Key> = there.keys().chain(generated.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            differs |= show(key, there.get(key), generated.get(key))?;
        }
        Ok(differs)
    }
}

/// Whether a port is taken over already: by the tunnel that leads to its cluster, or the proxy that counts under its name.
fn is_taken_over<'a>(port: &Takeover, mut there: impl Iterator<Item = &'a Value>) -> bool {
    let cluster = format!("outbound|{}||{}", port.port, port.host);
    let marks = ["value", "stat_prefix"].map(|field| format!("\"{field}\":\"{cluster}\""));
    there.any(|object| {
        let text = object["spec"].to_string();
        object["kind"] == "EnvoyFilter" && marks.iter().any(|mark| text.contains(mark))
    })
}

fn generated(object: &Object) -> Option<(Key, Value)> {
    compared(&serde_json::to_value(object).ok()?)
}

/// What counts of an object: not what a server adds to it.
fn compared(object: &Value) -> Option<(Key, Value)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let metadata = &object["metadata"];
    if metadata["labels"][MANAGED_BY.0] != MANAGED_BY.1 {
        return None;
    }
    // Who applied it is no difference.
    let mut labels = metadata["labels"].clone();
    labels.as_object_mut()?.remove(INSTANCE);
    let key = (text(&object["kind"])?, text(&metadata["namespace"])?, text(&metadata["name"])?);
    let mut kept = json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "labels": labels},
        "spec": object["spec"],
    });
    kept.pointer_mut("/spec/pluginConfig").into_iter().for_each(unpack);
    let patches = kept.pointer_mut("/spec/configPatches").and_then(Value::as_array_mut);
    for plan in patches.into_iter().flatten().filter_map(|patch| patch.pointer_mut(PLAN_OF_PATCH)) {
        if let Some(Ok(mut read)) = plan.as_str().map(serde_json::from_str::<Value>) {
            unpack(&mut read);
            *plan = read;
        }
    }
    Some((key, kept))
}

fn in_files(path: &Path) -> Result<BTreeMap<Key, Value>, String> {
    let files = match input::read(&[path.to_owned()], Depth::All) {
        // Nothing was generated into it yet.
        Err(input::Error::Empty { .. }) => Vec::new(),
        files => files.map_err(|error| error.to_string())?,
    };
    let mut objects = BTreeMap::new();
    for file in files {
        objects.extend(input::objects(&file)?.iter().filter_map(compared));
    }
    Ok(objects)
}

fn in_cluster() -> Result<BTreeMap<Key, Value>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let wrong = |error: &kube::Error| format!("cannot ask the cluster: {}", words::cluster(error));
        let client = Client::try_default().await.map_err(|error| wrong(&error))?;
        let ours = ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
        let mut objects = BTreeMap::new();
        for written in kinds::written() {
            let resource = written.resource();
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let listed = match api.list(&ours).await {
                Ok(listed) => listed,
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    screen::warn(format_args!("the cluster has no {}: Istio is not installed",
                        written.definition
                    ));
                    continue;
                }
                Err(error) => return Err(wrong(&error)),
            };
            for object in listed {
                let labels = object.labels().clone();
                let value = json!({
                    "apiVersion": resource.api_version,
                    "kind": written.kind,
                    "metadata": {"name": object.name_any(), "namespace": object.namespace(), "labels": labels},
                    "spec": object.data["spec"],
                });
                objects.extend(compared(&value));
            }
        }
        Ok(objects)
    })
}

/// Writes the differences of one object, if there are any.
fn show(key: &Key, there: Option<&Value>, generated: Option<&Value>) -> Result<bool, String> {
    if there == generated {
        return Ok(false);
    }
    let text =
        |value: Option<&Value>| value.map(serde_saphyr::to_string).transpose().map(Option::unwrap_or_default);
    let wrong = |error: serde_saphyr::ser::Error| error.to_string();
    let (old, new) = (text(there).map_err(wrong)?, text(generated).map_err(wrong)?);
    let (kind, namespace, name) = key;
    let label = format!("{kind} {namespace}/{name}");
    let side = |value: Option<&Value>| if value.is_some() { &*label } else { "/dev/null" };
    screen::heading(format_args!("--- {}", side(there)));
    screen::heading(format_args!("+++ {}", side(generated)));
    let diff = TextDiff::from_lines(&old, &new);
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        screen::line(hunk.header());
        for change in hunk.iter_changes() {
            let line = change.to_string_lossy();
            let line = line.trim_end_matches('\n');
            match change.tag() {
                ChangeTag::Delete => screen::removed(format_args!("-{line}")),
                ChangeTag::Insert => screen::added(format_args!("+{line}")),
                ChangeTag::Equal => screen::line(format_args!(" {}", Plain(line))),
            }
        }
    }
    Ok(true)
}
