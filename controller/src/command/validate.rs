use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Format, findings, print};
use crate::input::{self, Found, Resources};
use crate::mesh::Mesh;
use crate::validate;

/// Checks plans and resources.
#[derive(Debug, Args)]
pub struct Validate {
    /// Plans, in JSON or YAML or in the file that Envoy watches, and resources in YAML or JSON: files, folders of
    /// them, or `-` for the standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write what was found to the standard output.
    #[arg(long, short, value_enum)]
    output: Option<Format>,
    #[command(flatten)]
    mesh: Mesh,
}

impl Validate {
    /// Tells what the schemas, the rules, the generator and the filter find. The exit code is 1 if anything is an error.
    ///
    /// # Errors
    ///
    /// A file could not be read.
    pub fn run(&self) -> Result<ExitCode, String> {
        let files = input::read(&self.files).map_err(|error| error.to_string())?;
        let (resources, others): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| Resources::are_in(&file.text));
        // What lies in a folder beside plans and resources is not asked about.
        let plans = others.iter().filter(|file| !file.is_found || validate::is_plan(&file.text));
        let mut found: Vec<Found> = plans.flat_map(|file| validate::plan(&file.name, &file.text)).collect();
        let resources = Resources::new(&resources);
        found.extend(match resources.have_services() {
            true => resources.generate(&self.mesh.plans()).1,
            false => resources.found().to_vec(),
        });
        match self.output {
            None => findings::tell(&found),
            Some(Format::Json) => print(&format!("{:#}\n", findings::json(&found)))?,
            Some(Format::Yaml) => {
                print(&serde_saphyr::to_string(&findings::json(&found)).map_err(|error| error.to_string())?)?;
            }
            Some(Format::Table) => print(&findings::table(&found))?,
        }
        Ok(if findings::has_errors(&found) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
