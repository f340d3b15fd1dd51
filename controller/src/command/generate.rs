use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{Format, Inputs, Objects, findings, print, takeover};
use crate::generate::{NO_ADDRESS, Object, Role, takeovers};
use crate::input::Found;
use crate::screen;

/// Makes the objects of resources.
#[derive(Debug, Args)]
pub struct Generate {
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    objects: Objects,
    /// How the objects are written.
    #[arg(long, short, value_enum, default_value = "yaml")]
    output: Format,
    /// Write the objects even if a resource is in error: those of all others.
    #[arg(long)]
    keep_going: bool,
}

impl Generate {
    /// Writes the objects, and reports what of the resources is wrong or not honoured. The exit code is 1, and nothing
    /// is written, if a resource is in error; it is 2 if options do not go together.
    ///
    /// # Errors
    ///
    /// A file could not be read, or a policy in it.
    pub fn run(&self) -> Result<ExitCode, String> {
        let options = match self.objects.options() {
            Ok(options) => options,
            Err(why) => {
                screen::fail(why);
                return Ok(ExitCode::from(2));
            }
        };
        let resources = self.inputs.resources()?;
        let (output, found) = resources.generate(&options);
        let (without_address, found): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|one| one.finding.message == NO_ADDRESS);
        findings::tell(&found);
        tell_addresses(&without_address);
        takeover::tell_left(&takeovers(&resources.world, &options));
        if let Some(policy) = resources.unread_policies().next() {
            return Err(format!(
                "{policy} cannot be read; nothing is written, since leaving it out might allow too much"
            ));
        }
        if findings::has_errors(&found) && !self.keep_going {
            screen::fail(
                "nothing is written, since resources are in error; --keep-going writes what the others make",
            );
            return Ok(ExitCode::FAILURE);
        }
        match self.output {
            // One by one: as text they take far more room, since nothing of it is shared.
            Format::Yaml => output.objects.iter().try_for_each(|object| print(&yaml(object)?))?,
            Format::Json => {
                let list = List { api_version: "v1", kind: "List", items: &output.objects };
                let text = serde_json::to_string_pretty(&list).map_err(|error| error.to_string())?;
                print(&(text + "\n"))?;
            }
            Format::Table => print(&table(&output.objects))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Says once that services have no addresses: in files they never do.
fn tell_addresses(found: &[Found]) {
    let mut services = found.iter().filter_map(|one| one.resource.as_ref());
    let Some(first) = services.next() else { return };
    let (which, their) = match found.len() {
        1 => (format!("{first} has no address"), "its"),
        count => (format!("{count} services have no address ({first} and others)"), "their"),
    };
    screen::warn(format_args!(
        "{which}: {their} clients are not managed. The cluster has the addresses: read them too, by `kubectl get services \
         --all-namespaces --output yaml`, or leave it to the controller"
    ));
}

/// Objects as `kubectl` takes them in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: &'a [Object],
}

fn yaml(object: &Object) -> Result<String, String> {
    let text = serde_saphyr::to_string(object).map_err(|error| error.to_string())?;
    Ok(format!("---\n{text}"))
}

fn table(objects: &[Object]) -> String {
    let mut table = findings::columns(&["KIND", "NAMESPACE", "NAME", "BYTES", "FOR"]);
    for object in objects {
        let bytes = serde_json::to_string(object).map_or(0, |text| text.len()).to_string();
        let purpose = match (object.role(), object.kind) {
            (Role::Module, _) => "the module and its plan",
            (Role::Sockets, _) => "the internal listener and its cluster",
            (Role::Tunnel, "VirtualService") => "a listener of a gateway",
            (Role::Tunnel, _) => "connections of services",
        };
        table.add_row([object.kind, &object.metadata.namespace, &object.metadata.name, &bytes, purpose]);
    }
    findings::rows(&table)
}
