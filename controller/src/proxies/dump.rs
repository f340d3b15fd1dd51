//! What an Envoy was given: the extensions that it discovered, in its dump of the configuration.

use std::path::Path;

use serde_json::{Map, Value};

use super::reach::Question;
use super::which::Proxy;

/// What asks for them, and for nothing else of a configuration that may have megabytes. The plan in an object has less than
/// one of these.
const QUESTION: Question = Question { path: "/config_dump?resource=ecds_filters", most: 16 << 20 };

/// An extension that runs a module with a configuration, which is a plan if the module is ours.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Given {
    /// The name by which Envoy asked for it.
    pub(super) resource: String,
    /// What the filter is called in it, which the module tells with its metrics.
    pub(super) plugin: String,
    /// Where the module's code is from.
    pub(super) code: String,
    /// The configuration, as the module gets it.
    pub(super) text: String,
    /// The version that the control plane gave it.
    pub(super) version: Option<String>,
    /// When Envoy got it.
    pub(super) since: Option<String>,
}

impl Given {
    /// FNV-1a of the configuration, as the module tells it.
    pub(super) fn digest(&self) -> u64 {
        let step = |digest: u32, byte: u8| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        self.text.bytes().fold(0x811c_9dc5, step).into()
    }

    /// The configuration as a plan, not yet checked. Without any it is an empty one.
    pub(super) fn plan(&self) -> serde_json::Result<Value> {
        match self.text.trim() {
            "" => Ok(Value::Object(Map::new())),
            text => serde_json::from_str(text),
        }
    }

    /// The namespace and the name of the object that it was made of, if istiod gave it.
    pub(super) fn object(&self) -> Option<(&str, &str)> {
        let (_, object) = self.resource.rsplit_once('/')?;
        // istiod's own ending, of a WasmPlugin that it translated.
        object.split('~').next()?.split_once('.')
    }
}

/// What a proxy was given.
///
/// # Errors
///
/// It does not answer, or not as an Envoy does.
pub(super) async fn ask(proxy: &Proxy) -> Result<Vec<Given>, String> {
    // Envoy says that it has no such thing where it discovers no extensions.
    proxy.find(QUESTION).await?.map_or(Ok(Vec::new()), |text| given(&text))
}

/// The extensions of a dump that run a module.
///
/// # Errors
///
/// It is no dump.
fn given(text: &str) -> Result<Vec<Given>, String> {
    let dump: Value =
        serde_json::from_str(text).map_err(|error| format!("not a configuration dump: {error}"))?;
    // Nothing at all is said where there is none.
    let configs = dump["configs"].as_array().into_iter().flatten();
    Ok(configs.filter_map(one).collect())
}

fn one(dumped: &Value) -> Option<Given> {
    let resource = &dumped["ecds_filter"];
    let config = &resource["typed_config"]["config"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Given {
        resource: text(&resource["name"])?,
        plugin: text(&config["name"]).unwrap_or_default(),
        code: code(&config["vm_config"]["code"]),
        text: text(&config["configuration"]["value"]).unwrap_or_default(),
        version: text(&dumped["version_info"]).filter(|version| !version.is_empty()),
        since: text(&dumped["last_updated"]),
    })
}

/// The digest of the module, which istio-agent makes the name of its file; or what else is known of it.
fn code(code: &Value) -> String {
    if let Some(sha256) = code["remote"]["sha256"].as_str().filter(|digest| !digest.is_empty()) {
        return sha256.to_owned();
    }
    let file = code["local"]["filename"].as_str().map(Path::new);
    let stem = file.and_then(Path::file_stem).and_then(|stem| stem.to_str());
    let is_digest = |stem: &&str| stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (stem.filter(is_digest), file, code["remote"]["http_uri"]["uri"].as_str()) {
        (Some(digest), ..) => digest.to_owned(),
        (None, Some(file), _) => file.display().to_string(),
        (None, None, uri) => uri.unwrap_or("inline").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dump(code: &Value) -> String {
        let name =
            "extensions.istio.io/trafficextension/shop.meltemi-server-pay.01~istio-translated-wasmplugin";
        json!({"configs": [{
            "@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump.EcdsFilterConfig",
            "version_info": "2026-11-29T02:13:57Z/4",
            "ecds_filter": {
                "name": name,
                "typed_config": {"config": {
                    "name": name,
                    "root_id": "meltemi-server-pay.01",
                    "vm_config": {"code": code},
                    "configuration": {"value": "{}"},
                }},
            },
            "last_updated": "2026-11-29T02:13:57.856Z",
        }]})
        .to_string()
    }

    #[test]
    fn what_istiod_gave_is_read() {
        let digest = "a".repeat(64);
        let file = format!("/var/lib/istio/data/abc/{digest}.wasm");
        let given = given(&dump(&json!({"local": {"filename": file}}))).unwrap();
        let [given] = given.as_slice() else { panic!("{given:?}") };
        assert_eq!(given.object(), Some(("shop", "meltemi-server-pay.01")));
        assert_eq!((&given.code, given.text.as_str()), (&digest, "{}"));
        assert_eq!(given.version.as_deref(), Some("2026-11-29T02:13:57Z/4"));
    }

    #[test]
    fn the_digest_is_fnv() {
        let mut given = given(&dump(&json!({}))).unwrap().remove(0);
        for (text, digest) in [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            given.text = text.to_owned();
            assert_eq!(given.digest(), digest, "{text}");
        }
    }

    #[test]
    fn code_is_known_by_its_digest_or_by_where_it_is() {
        for (of, known) in [
            (json!({"local": {"filename": "target/meltemi.wasm"}}), "target/meltemi.wasm"),
            (json!({"remote": {"http_uri": {"uri": "http://x/m.wasm"}, "sha256": "ab"}}), "ab"),
            (json!({"remote": {"http_uri": {"uri": "http://x/m.wasm"}}}), "http://x/m.wasm"),
            (json!({"local": {"inline_bytes": "AGFzbQ=="}}), "inline"),
        ] {
            assert_eq!(code(&of), known);
        }
    }

    #[test]
    fn an_envoy_without_extensions_has_given_nothing() {
        assert_eq!(given("{}"), Ok(Vec::new()));
        assert!(given("<html>").unwrap_err().starts_with("not a configuration dump: "));
    }
}
