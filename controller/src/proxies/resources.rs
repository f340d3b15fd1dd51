//! What the controller says of people's resources, in the conditions of their status.

use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use super::which::{Which, listed};
use crate::kinds::{self, Kind};

/// A resource, and whether it is in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Resource {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// `accepted`, `warnings`, `refused`, or `pending` while no controller has looked at it as it is, or not all is written.
    pub(crate) state: &'static str,
    /// Where it is in force, or what is wrong with it and the mend.
    pub(crate) message: String,
}

/// Meltemi's and Aeraki's resources of the cluster, those that want a look first; `None` where no cluster is asked.
///
/// # Errors
///
/// They cannot be listed.
pub(crate) async fn resources(which: &Which) -> Result<Option<Vec<Resource>>, String> {
    let Some(client) = which.cluster().await? else { return Ok(None) };
    let mut all = Vec::new();
    for kind in kinds::ours() {
        let resource = kind.resource();
        let api: Api<DynamicObject> = match which.namespace(&client) {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let objects = listed(&api, &ListParams::default(), &resource).await?;
        all.extend(objects.iter().map(|object| told(kind, object)));
    }
    all.sort_by_key(|resource| {
        ["refused", "warnings", "pending"].iter().position(|state| *state == resource.state).unwrap_or(3)
    });
    Ok(Some(all))
}

fn told(kind: &Kind, object: &DynamicObject) -> Resource {
    let conditions = object.data["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let condition = |name: &str| conditions.iter().find(|condition| condition["type"] == name);
    let text = |condition: &Value| condition["message"].as_str().unwrap_or_default().to_owned();
    let lacking = |name: &str| condition(name).filter(|condition| condition["status"] != "True");
    let is_stale = |condition: &Value| {
        let seen = condition["observedGeneration"].as_i64().zip(object.metadata.generation);
        seen.is_some_and(|(seen, now)| seen < now)
    };
    let (state, message) = match (condition("Accepted"), lacking("Programmed"), lacking("Honoured")) {
        (None, ..) => ("pending", "no controller has looked at it yet".to_owned()),
        (Some(accepted), ..) if is_stale(accepted) => {
            ("pending", "no controller has looked at it since it was changed".to_owned())
        }
        (Some(accepted), ..) if accepted["status"] != "True" => ("refused", text(accepted)),
        (Some(_), Some(programmed), _) => ("pending", text(programmed)),
        (Some(accepted), ..) if accepted["reason"] == "AcceptedWithWarnings" => ("warnings", text(accepted)),
        (Some(_), None, Some(honoured)) => ("warnings", text(honoured)),
        (Some(accepted), None, None) => ("accepted", text(accepted)),
    };
    Resource {
        kind: kind.title.clone(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        state,
        message,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_is_what_its_conditions_say() {
        let condition = |of: &str, status: &str, reason: &str| {
            let message = format!("{reason}!");
            json!({"type": of, "status": status, "reason": reason, "message": message, "observedGeneration": 2})
        };
        let kind = kinds::ours().next().unwrap();
        for (conditions, expected) in [
            (json!([]), ("pending", "no controller has looked at it yet")),
            (json!([condition("Accepted", "False", "Invalid")]), ("refused", "Invalid!")),
            (
                json!([condition("Accepted", "True", "AcceptedWithWarnings")]),
                ("warnings", "AcceptedWithWarnings!"),
            ),
            (
                json!([
                    condition("Accepted", "True", "Accepted"),
                    condition("Honoured", "False", "NotHonoured")
                ]),
                ("warnings", "NotHonoured!"),
            ),
            (
                json!([
                    condition("Accepted", "True", "Accepted"),
                    condition("Programmed", "False", "Pending")
                ]),
                ("pending", "Pending!"),
            ),
            (
                json!([
                    condition("Accepted", "True", "AcceptedWithWarnings"),
                    condition("Programmed", "False", "NotWritten")
                ]),
                ("pending", "NotWritten!"),
            ),
            (json!([condition("Accepted", "True", "Accepted")]), ("accepted", "Accepted!")),
        ] {
            let of_generation = |generation: i64| {
                let object = json!({
                    "metadata": {"name": "routes", "namespace": "shop", "generation": generation},
                    "status": {"conditions": conditions},
                });
                told(kind, &serde_json::from_value(object).unwrap())
            };
            let told = of_generation(2);
            assert_eq!((told.state, told.message.as_str()), expected);
            assert_eq!((told.namespace.as_str(), told.name.as_str()), ("shop", "routes"));
            assert_eq!(of_generation(3).state, "pending", "it is not what was looked at");
        }
    }
}
