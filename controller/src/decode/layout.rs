//! The layout that bytes are read by: a file with it alone, or with the ApplicationProtocol that it is in.

use std::path::Path;

use meltemi_codecs::Layout;
use meltemi_proxy::plan::{self, raw};
use serde_json::Value;

use crate::words;

/// Reads a layout.
///
/// # Errors
///
/// It cannot be read, or contradicts itself: where and why.
pub fn read(path: &Path) -> Result<Layout, String> {
    let file = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {file}: {}", words::file(&error)))?;
    let document: Value = serde_saphyr::from_str(&text).map_err(|error| {
        let (place, message) = words::yaml(&error);
        let place = place.map(|place| format!("{}:{}: ", place.line, place.column)).unwrap_or_default();
        format!("{file}: {place}{message}")
    })?;
    let (name, layout) = match document.get("spec") {
        Some(spec) => (spec["protocol"].as_str().unwrap_or("layout"), &spec["layout"]),
        None => ("layout", &document),
    };
    let layout: raw::Layout = serde_path_to_error::deserialize(layout)
        .map_err(|error| format!("{file}: {}: {}", error.path(), words::shape(&error.inner().to_string())))?;
    plan::layout(name, &layout).map_err(|error| format!("{file}: {error}"))
}
