//! Passwords: from Secrets, or as they are written.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use crate::api::aeraki::{RedisAuth, RedisSecret};
use crate::world::World;

/// A user's name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: Option<String>,
    pub(super) password: String,
}

/// The Secrets by namespace and name.
#[derive(Debug)]
pub(super) struct Secrets<'a>(BTreeMap<(&'a str, &'a str), &'a Secret>);

impl<'a> Secrets<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        let key = |secret: &'a Secret| {
            let metadata = &secret.metadata;
            let key = (metadata.namespace.as_deref()?, metadata.name.as_deref()?);
            Some((key, secret))
        };
        Self(world.secrets.iter().filter_map(key).collect())
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
        let secret = self.0.get(&(namespace, &*asked.name));
        let secret = secret.ok_or_else(|| format!("there is no Secret {namespace}/{}", asked.name))?;
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
