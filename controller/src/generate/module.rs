//! How the module and its plan reach proxies.

use serde_json::json;

use super::object::{Object, Role};
use super::options::{Delivery, IstioVersion, Options};
use super::service::Labels;
use super::sockets::{Proxies, envoy_filter};
use super::tree::Tree;

/// The module with one plan, for some proxies of a namespace.
#[derive(Debug)]
pub(super) struct Module<'a> {
    pub(super) namespace: &'a str,
    /// The name of its object, and of the plugin.
    pub(super) shard: &'a str,
    /// The name that proxies ask for it by.
    pub(super) discovery_name: &'a str,
    pub(super) proxies: Proxies,
    pub(super) selector: Option<&'a Labels>,
    /// Where there is no module, no connection passes.
    pub(super) fails_closed: bool,
    pub(super) plan: Tree,
}

/// The first version whose istiod translates WasmPlugins into TrafficExtensions, whose names are others.
const TRAFFIC_EXTENSION: IstioVersion = IstioVersion(30);

/// The name that proxies ask istiod for the module by (ECDS).
pub(super) fn discovery_name(namespace: &str, name: &str, options: &Options) -> String {
    match options.delivery {
        Delivery::WasmPlugin if options.istio_version < TRAFFIC_EXTENSION => {
            format!("extensions.istio.io/wasmplugin/{namespace}.{name}")
        }
        Delivery::WasmPlugin => {
            format!("extensions.istio.io/trafficextension/{namespace}.{name}~istio-translated-wasmplugin")
        }
        Delivery::ExtensionConfig => format!("meltemi.io/{namespace}.{name}"),
    }
}

impl Module<'_> {
    /// The object that delivers it.
    pub(super) fn object(self, options: &Options) -> Object {
        match options.delivery {
            Delivery::WasmPlugin => self.wasm_plugin(options),
            Delivery::ExtensionConfig => self.extension_config(options),
        }
    }

    fn strategy(&self) -> &'static str {
        if self.fails_closed { "FAIL_CLOSE" } else { "FAIL_OPEN" }
    }

    fn wasm_plugin(self, options: &Options) -> Object {
        let mut spec = json!({
            "url": options.module,
            "type": "NETWORK",
            "pluginName": self.shard,
            "failStrategy": self.strategy(),
            // Istio would insert the module itself wherever this matches: nowhere. The internal listener asks for it.
            "match": [{"mode": "CLIENT", "ports": [{"number": 1}]}],
        });
        if let Some(sha256) = &options.module_sha256 {
            spec["sha256"] = json!(sha256);
        }
        if let Some(secret) = &options.image_pull_secret {
            spec["imagePullSecret"] = json!(secret);
        }
        if let Some(labels) = self.selector {
            spec["selector"] = json!({"matchLabels": labels});
        }
        Object::wasm_plugin(
            self.namespace,
            self.shard.to_owned(),
            Tree::with(spec, "pluginConfig", self.plan),
        )
    }

    fn extension_config(self, options: &Options) -> Object {
        let mut remote = json!({"http_uri": {"uri": options.module, "timeout": "60s", "cluster": "_"}});
        if let Some(sha256) = &options.module_sha256 {
            remote["sha256"] = json!(sha256);
        }
        let filter = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
            "config": {
                "name": self.shard,
                "root_id": self.shard,
                "failure_policy": self.strategy().replace("CLOSE", "CLOSED"),
                "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"remote": remote}},
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": self.plan.to_string(),
                },
            },
        });
        let patch = json!({
            "applyTo": "EXTENSION_CONFIG",
            "match": {"context": self.proxies.context()},
            "patch": {
                "operation": "ADD",
                "value": {"name": self.discovery_name, "typed_config": filter},
            },
        });
        let spec = envoy_filter(self.selector, [patch.into()]);
        Object::envoy_filter(Role::Module, self.namespace, self.shard.to_owned(), spec)
    }
}
