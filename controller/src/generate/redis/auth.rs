//! Passwords: from Secrets, or as they are written.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use crate::api::aeraki::{RedisAuth, RedisSecret};
use crate::world::World;

/// The label, with the value `true`, by which the owner of a Secret agrees that it is read for Redis. Otherwise whoever may
/// write a RedisService could have any Secret of the namespace shown in an EnvoyFilter.
const LABEL: &str = "meltemi.io/redis-password";

/// The type of Secret that agrees by itself.
const TYPE: &str = "meltemi.io/redis";

/// The types that may be read without a mark, where that is allowed at all: those that applications make for themselves. Others
/// are keys of clusters, registries and service accounts.
const PLAIN_TYPES: [&str; 2] = ["Opaque", "kubernetes.io/basic-auth"];

/// A user's name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: Option<String>,
    pub(super) password: String,
}

impl Credentials {
    /// What its writer may not have meant.
    pub(super) fn remark(&self) -> Option<&'static str> {
        self.password.ends_with(['\n', '\r']).then_some(
            "the password ends with the end of a line, which counts: `printf %s` and `echo -n` make one without",
        )
    }
}

/// The Secrets by namespace and name.
#[derive(Debug)]
pub(super) struct Secrets<'a> {
    by_name: BTreeMap<(&'a str, &'a str), &'a Secret>,
    /// Those that nobody marked count as well.
    any: bool,
}

impl<'a> Secrets<'a> {
    pub(super) fn new(world: &'a World, any: bool) -> Self {
        let key = |secret: &'a Secret| {
            let metadata = &secret.metadata;
            let key = (metadata.namespace.as_deref()?, metadata.name.as_deref()?);
            Some((key, secret))
        };
        Self { by_name: world.secrets.iter().filter_map(key).collect(), any }
    }

    /// What a resource of a namespace asks for.
    ///
    /// # Errors
    ///
    /// What the Secret lacks.
    pub(super) fn credentials(&self, auth: &RedisAuth, namespace: &str) -> Result<Credentials, String> {
        let plain = auth.plain.clone().unwrap_or_default();
        match &auth.secret {
            Some(secret) => self.of_secret(secret, namespace),
            None => Ok(Credentials { username: filled(plain.username.as_ref()), password: plain.password }),
        }
    }

    fn of_secret(&self, asked: &RedisSecret, namespace: &str) -> Result<Credentials, String> {
        let name = &asked.name;
        let secret = self.by_name.get(&(namespace, &**name)).ok_or_else(|| {
            format!(
                "there is no Secret {namespace}/{name}, or no right to read it (`meltemi install --redis-secrets={namespace}`)"
            )
        })?;
        self.is_for_redis(secret, namespace, name)?;
        let named = |name: Option<&String>, defaults: &[&str]| match filled(name) {
            Some(name) => field(secret, &name)?
                .map(Some)
                .ok_or_else(|| format!("the Secret {namespace}/{} has no field {name:?}", asked.name)),
            None => Ok(defaults.iter().find_map(|name| field(secret, name).transpose()).transpose()?),
        };
        let password = named(asked.password_field.as_ref(), &["password", "token"])?;
        let missing = || format!("the Secret {namespace}/{} has neither password nor token", asked.name);
        Ok(Credentials {
            password: password.filter(|password| !password.is_empty()).ok_or_else(missing)?,
            username: named(asked.username_field.as_ref(), &["username"])?,
        })
    }
}

impl Secrets<'_> {
    /// Whether a Secret may be read.
    fn is_for_redis(&self, secret: &Secret, namespace: &str, name: &str) -> Result<(), String> {
        let labels = secret.metadata.labels.as_ref();
        let is_labelled = labels.and_then(|labels| labels.get(LABEL)).is_some_and(|value| value == "true");
        let kind = secret.type_.as_deref().unwrap_or("Opaque");
        if is_labelled || kind == TYPE || (self.any && PLAIN_TYPES.contains(&kind)) {
            return Ok(());
        }
        Err(format!(
            "nobody said that the Secret {namespace}/{name} is for Redis: kubectl label secret --namespace={namespace} {name} \
             {LABEL}=true"
        ))
    }
}

fn filled(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

fn field(secret: &Secret, name: &str) -> Result<Option<String>, String> {
    if let Some(text) = secret.string_data.as_ref().and_then(|data| data.get(name)) {
        return Ok(Some(text.clone()));
    }
    let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(name)) else { return Ok(None) };
    let text = String::from_utf8(bytes.0.clone());
    text.map(Some).map_err(|_| format!("the field {name:?} of the Secret is not text"))
}

/// A text as Envoy's `DataSource`, which its configuration dumps do not show.
pub(super) fn source(text: &str) -> Value {
    json!({"inline_string": text})
}
