use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Config, Error};

/// The type of the filter's configuration, by which its place in the file is known.
const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm";

/// The type of a plan inside the file: its JSON text.
const TEXT: &str = "type.googleapis.com/google.protobuf.StringValue";

/// The file from which Envoy takes the filter's configuration, the plan, by ECDS, while it runs.
///
/// Envoy watches for files *moved* to the name, so every change is a new file renamed over the old one: Envoy sees the
/// old plan or the new one, never half of one.
#[derive(Debug, Clone)]
pub struct PlanFile {
    path: PathBuf,
    document: Config,
}

impl PlanFile {
    /// A file at `path` in the shape of `document`, a discovery response with the filter's configuration, such as the
    /// shipped `dubbo.plan.yaml`. Nothing is written yet.
    ///
    /// # Errors
    ///
    /// There is no filter's configuration in the document.
    pub fn new(path: &Path, mut document: Config) -> Result<Self, Error> {
        match filter(document.value_mut()) {
            Some(_) => Ok(Self { path: path.to_owned(), document }),
            None => Err(Error::Config { file: path.display().to_string(), why: format!("has no {FILTER}") }),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The plan's text in `document`, if it is a discovery response with the filter's configuration.
    pub fn plan(document: &mut Config) -> Option<&str> {
        filter(document.value_mut())?["configuration"]["value"].as_str()
    }

    /// Gives the filter `plan`, a JSON text. It is not checked: what the filter refuses, it refuses whole, and goes on
    /// by the plan it has.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&mut self, plan: &str) -> Result<(), Error> {
        if let Some(filter) = filter(self.document.value_mut()) {
            filter["configuration"] = json!({"@type": TEXT, "value": plan});
        }
        let mut next = self.path.clone();
        next.as_mut_os_string().push(".next");
        self.document.write(&next)?;
        fs::rename(&next, &self.path).map_err(Error::io("write", &self.path))
    }
}

/// The filter's `config` in the document.
fn filter(document: &mut Value) -> Option<&mut Value> {
    let resources = document.get_mut("resources")?.as_array_mut()?;
    let configs = resources.iter_mut().filter_map(|resource| resource.get_mut("typed_config"));
    configs.filter(|config| config["@type"] == FILTER).find_map(|config| config.get_mut("config"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Config {
        let text = format!(
            "resources: [{{name: meltemi, typed_config: {{'@type': {FILTER}, config: {{name: meltemi, \
             configuration: {{'@type': {TEXT}, value: '{{}}'}}}}}}}}]"
        );
        Config::parse("test", &text).unwrap()
    }

    #[test]
    fn a_written_plan_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = PlanFile::new(&folder.path().join("plan.yaml"), document()).unwrap();
        for plan in [r#"{"services": {}}"#, r#"{"services": {"é": 1}}"#] {
            file.write(plan).unwrap();
            let text = fs::read_to_string(file.path()).unwrap();
            assert_eq!(PlanFile::plan(&mut Config::parse("plan", &text).unwrap()), Some(plan));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn other_documents_are_refused() {
        let other = Config::parse("test", "resources: []").unwrap();
        let error = PlanFile::new(Path::new("plan.yaml"), other).unwrap_err();
        assert!(error.to_string().starts_with("plan.yaml: has no type.googleapis.com/envoy"), "{error}");
    }
}
