use std::borrow::Cow;

use serde_json::Value;

use crate::envoy::{Config, PlanFile};
use crate::words::nearest;

/// A plan taken from a file: the JSON text that the filter would be given, and where it is in the file.
#[derive(Debug)]
pub struct Source<'a> {
    /// The plan.
    pub plan: Cow<'a, str>,
    origin: Origin,
}

#[derive(Debug, PartialEq)]
enum Origin {
    /// The plan is the file.
    File,
    /// The plan is a block of the file that starts after so many lines, each indented by so many bytes.
    Block { lines: usize, indent: usize },
    /// The plan was made from the file, so that its lines mean nothing to the reader.
    Converted,
}

impl<'a> Source<'a> {
    /// Takes the plan from `text`: a plan in JSON, or (`.yaml`, `.yml` and what begins like no JSON) a plan in YAML or the
    /// discovery response with a plan in it that Envoy watches.
    ///
    /// # Errors
    ///
    /// The file is not YAML.
    pub fn read(file: &str, text: &'a str) -> Result<Self, serde_saphyr::Error> {
        let is_yaml = file.ends_with(".yaml")
            || file.ends_with(".yml")
            || (file == "-" && !text.trim_start().starts_with(['{', '[']));
        if !is_yaml {
            return Ok(Self { plan: text.into(), origin: Origin::File });
        }
        let mut document = Config::from(serde_saphyr::from_str::<Value>(text)?);
        if let Some(plan) = PlanFile::plan(&mut document) {
            let origin = block(text, plan).unwrap_or(Origin::Converted);
            return Ok(Self { plan: plan.to_owned().into(), origin });
        }
        // Nothing at all is a plan without services, in YAML as in JSON.
        let plan = match document.value() {
            Value::Null => String::new(),
            value => value.to_string(),
        };
        Ok(Self { plan: plan.into(), origin: Origin::Converted })
    }

    /// Why it is no plan at all, where it is none; what is wrong with one is for the filter's own code to say.
    pub fn is_no_plan(&self) -> Option<String> {
        const WANTED: &str = "a plan has services, a resource apiVersion and kind";
        if self.plan.trim().is_empty() {
            return Some(format!("is empty, neither a plan nor a resource: {WANTED}"));
        }
        let document: Value = serde_json::from_str(&self.plan).ok()?;
        let fields = document.as_object()?;
        let schema = meltemi_proxy::plan::schema();
        let known = schema["properties"].as_object()?;
        let is_near = |name: &String| nearest(name, known.keys().map(String::as_str)).is_some();
        let is_plan = fields.is_empty() || fields.keys().any(is_near);
        (!is_plan).then(|| format!("is neither a plan nor a resource: {WANTED}"))
    }

    /// Line and column in the file of a line and column in the plan.
    pub fn in_file(&self, (line, column): (usize, usize)) -> Option<(usize, usize)> {
        match self.origin {
            Origin::File => Some((line, column)),
            Origin::Block { lines, indent } => Some((line + lines, column + indent)),
            Origin::Converted => None,
        }
    }
}

/// Finds `plan` as an indented block of the lines of `text`.
fn block(text: &str, plan: &str) -> Option<Origin> {
    let lines: Vec<&str> = text.lines().collect();
    let wanted: Vec<&str> = plan.trim_end().lines().collect();
    let first = wanted.first()?;
    lines.windows(wanted.len()).enumerate().find_map(|(start, window)| {
        let indent = window.first()?.strip_suffix(first)?;
        let same = |(line, wanted): (&&str, &&str)| {
            wanted.is_empty() || line.strip_prefix(indent).is_some_and(|line| line == *wanted)
        };
        let block = indent.trim().is_empty() && window.iter().zip(&wanted).all(same);
        block.then_some(Origin::Block { lines: start, indent: indent.len() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCHED: &str = "# comment
resources:
- typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm
    config:
      configuration:
        value: |
          {
            \"services\": 5

          }
";

    #[test]
    fn json_is_read_where_it_is() {
        let source = Source::read("plan.json", "{}").unwrap();
        assert_eq!((&*source.plan, source.in_file((3, 4))), ("{}", Some((3, 4))));
    }

    #[test]
    fn a_watched_plan_is_found_in_its_file() {
        let source = Source::read("plan.yaml", WATCHED).unwrap();
        assert_eq!(source.plan, "{\n  \"services\": 5\n\n}\n");
        assert_eq!(source.in_file((2, 15)), Some((9, 25)));
    }

    #[test]
    fn yaml_is_converted() {
        let source = Source::read("plan.yml", "services: {a: {protocol: dubbo}}\n").unwrap();
        assert_eq!(source.plan, r#"{"services":{"a":{"protocol":"dubbo"}}}"#);
        assert_eq!(source.in_file((1, 1)), None);
        assert_eq!(Source::read("empty.yml", "").unwrap().plan, "");
    }
}
