use std::process::ExitCode;

use clap::Args;

use super::{Format, Inputs, findings, print};
use crate::input::{Found, Resources};
use crate::mesh::Mesh;
use crate::{screen, validate};

/// Checks plans (in JSON or YAML, or in the file that Envoy watches) and resources.
#[derive(Debug, Args)]
pub struct Validate {
    #[command(flatten)]
    inputs: Inputs,
    /// Write what was found to the standard output.
    #[arg(long, short, value_enum)]
    output: Option<Format>,
    #[command(flatten)]
    mesh: Mesh,
}

impl Validate {
    /// Tells what the schemas, the rules, the generator and the filter find, and how much was checked. The exit code is 1
    /// if anything is an error, or if there is nothing to check.
    ///
    /// # Errors
    ///
    /// A file could not be read, or there is nothing in all of them.
    pub fn run(&self) -> Result<ExitCode, String> {
        let files = self.inputs.read()?;
        let (resources, others): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| Resources::are_in(&file.text));
        // What lies in a folder beside plans and resources is not asked about.
        let (plans, files): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|file| !file.is_found || validate::is_plan(&file.text));
        let mut found: Vec<Found> =
            plans.iter().flat_map(|file| validate::plan(&file.name, &file.text)).collect();
        let mut resources = Resources::new(&resources, &self.inputs.namespace);
        // Whether a service has its address yet is the cluster's matter.
        resources.world.assume_addresses();
        found.extend(match resources.have_services() {
            true => resources.generate(&self.mesh.plans()).1,
            false => resources.found().to_vec(),
        });
        let counts = Counts {
            resources: resources.checked(),
            others: resources.others(),
            plans: plans.len(),
            files: files.len(),
        };
        match self.output {
            None => {
                findings::tell(&found);
                screen::line(counts.told());
            }
            Some(Format::Json) => print(&format!("{:#}\n", findings::json(&found)))?,
            Some(Format::Yaml) => {
                print(&serde_saphyr::to_string(&findings::json(&found)).map_err(|error| error.to_string())?)?;
            }
            Some(Format::Table) => print(&findings::table(&found))?,
        }
        let is_nothing = found.is_empty() && counts.resources + counts.others + counts.plans == 0;
        if is_nothing {
            return Err("nothing to check: neither a resource nor a plan".into());
        }
        Ok(if findings::has_errors(&found) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// How much was checked.
struct Counts {
    resources: usize,
    /// Resources of other kinds.
    others: usize,
    plans: usize,
    /// Files that are neither.
    files: usize,
}

impl Counts {
    fn told(&self) -> String {
        let of = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let mut parts = Vec::new();
        if self.plans > 0 {
            parts.push(format!("{} checked", of(self.plans, "plan")));
        }
        if self.resources > 0 || self.plans == 0 {
            parts.push(format!("{} checked", of(self.resources, "resource")));
        }
        if self.others > 0 {
            parts.push(format!("{} of other kinds", self.others));
        }
        if self.files > 0 {
            parts.push(format!("{} with neither", of(self.files, "file")));
        }
        parts.join(", ")
    }
}
