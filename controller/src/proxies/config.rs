//! `meltemi proxy-config`.

use std::process::ExitCode;

use clap::Args;
use meltemi_proxy::plan::MOST_PACKED;
use serde_json::{Value, json};

use super::block_on;
use super::dump::{self, Given};
use super::which::{Proxy, Which, ask_each};
use crate::command::{Format, findings, print, print_json};
use crate::generate::unpack_within;
use crate::plain::Plain;
use crate::screen;

/// Shows the plan that a proxy has.
#[derive(Debug, Args)]
pub struct ProxyConfig {
    #[command(flatten)]
    which: Which,
    /// Only the entries whose names contain this: a service, or its port.
    #[arg(long, value_name = "TEXT", default_value = "")]
    service: String,
    /// How it is written: a line for each service, or the plans, without what collectors of spans are told.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
}

impl ProxyConfig {
    /// Prints it. The exit code is 1 if a proxy does not answer.
    ///
    /// # Errors
    ///
    /// There is no cluster, or no such proxy in it.
    pub fn run(&self) -> Result<ExitCode, String> {
        let mut shown = Vec::new();
        let mut is_complete = true;
        let take = |proxy: &str, answer: Plans| match answer {
            Err(why) => {
                screen::fail(format_args!("{proxy}: {why}"));
                is_complete = false;
            }
            Ok(own) => shown.extend(own.into_iter().map(|(name, mut plan)| {
                if let Some(services) = plan.get_mut("services").and_then(Value::as_object_mut) {
                    services.retain(|name, _| name.contains(&self.service));
                }
                json!({"proxy": proxy, "name": name, "plan": plan})
            })),
        };
        block_on(async {
            plans(&self.which.proxies().await?, take).await;
            Ok(())
        })?;
        match self.output {
            Format::Table => print(&table(&shown))?,
            Format::Json => print_json(&shown)?,
            Format::Yaml => print(&serde_saphyr::to_string(&shown).map_err(|error| error.to_string())?)?,
        }
        Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The plans of a proxy by their names, or why it does not tell them.
pub(crate) type Plans = Result<Vec<(String, Value)>, String>;

/// Hands over the plans that each proxy has, by its name, with packed services unpacked, and without secrets.
pub(crate) async fn plans(proxies: &[Proxy], mut take: impl FnMut(&str, Plans)) {
    let ask = |proxy: Proxy| async move { dump::ask(&proxy).await };
    ask_each(proxies, ask, |proxy, given| take(&proxy.name, given.and_then(read))).await;
}

/// The plans in what a proxy was given.
fn read(given: Vec<Given>) -> Plans {
    // What a proxy says may be anything, and what little is packed be much.
    let mut left = MOST_PACKED;
    let one =
        |given: Given| {
            let mut plan: Value = serde_json::from_str(&given.text).ok()?;
            let name = given.object().map_or(given.plugin.as_str(), |(_, name)| name).to_owned();
            let unpacked = unpack_within(&mut plan, &mut left);
            hide(&mut plan);
            Some(unpacked.map(|()| (name, plan)).map_err(|_| {
                format!("the packed services of its plans are more than {} MiB", MOST_PACKED >> 20)
            }))
        };
    given.into_iter().filter_map(one).collect()
}

/// What is shown in the place of an entry that is none, so that nobody knows what is secret in it.
const UNREADABLE: &str = "(not shown: neither an object nor one that is packed)";

/// Hides what collectors of spans are told, such as tokens: whoever looks at routes may not know it.
fn hide(plan: &mut Value) {
    let Some(services) = plan.get_mut("services") else { return };
    let Value::Object(services) = services else {
        *services = UNREADABLE.into();
        return;
    };
    for (_, entry) in services {
        if !entry.is_object() {
            *entry = UNREADABLE.into();
        }
        let Some(tracing) = entry.get_mut("tracing") else { continue };
        let hidden = || Value::from("(hidden)");
        // A plan may be refused, and is shown all the same.
        let Value::Object(fields) = tracing else {
            *tracing = hidden();
            continue;
        };
        match fields.get_mut("headers") {
            Some(Value::Object(headers)) => headers.values_mut().for_each(|value| *value = hidden()),
            Some(other) => *other = hidden(),
            None => {}
        }
    }
}

fn table(plans: &[Value]) -> String {
    let mut table = findings::columns(&[
        "PROXY", "PLAN", "SERVICE", "PROTOCOL", "ROUTES", "DEFAULT", "TIMEOUT", "POLICIES",
    ]);
    for plan in plans {
        let services = plan["plan"]["services"].as_object().into_iter().flatten();
        for (service, entry) in services {
            let of = |value: &Value| Plain(value.as_str().unwrap_or("-")).to_string();
            let several = entry["protocols"].as_array().map(|all| {
                let names: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
                Plain(names.join(",")).to_string()
            });
            let default = &entry["defaultRoute"];
            // What else is said of it: how calls are limited, guarded and watched.
            let known = ["protocol", "protocols", "routes", "defaultRoute", "onNoMatch"];
            let fields = entry.as_object().into_iter().flat_map(serde_json::Map::keys);
            let others: Vec<&str> = fields.map(String::as_str).filter(|name| !known.contains(name)).collect();
            let to = match (entry["onNoMatch"].as_str(), default["cluster"].as_str()) {
                (Some("reject"), _) => "rejected".to_owned(),
                (_, Some(cluster)) => Plain(cluster).to_string(),
                (_, None) if default["weightedClusters"].is_array() => "weighted".to_owned(),
                _ => "as the connection".to_owned(),
            };
            table.add_row([
                of(&plan["proxy"]),
                of(&plan["name"]),
                Plain(service).to_string(),
                several.unwrap_or_else(|| of(&entry["protocol"])),
                entry["routes"].as_array().map_or(0, Vec::len).to_string(),
                to,
                of(&default["timeout"]),
                Plain(others.join(",")).to_string(),
            ]);
        }
    }
    findings::rows(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::pack;

    #[test]
    fn entries_that_cannot_be_read_are_not_shown() {
        let entry = json!({"protocol": "dubbo", "tracing": {"headers": {"authorization": "Bearer secret"}}});
        let packed = pack(&entry.to_string()).unwrap();
        let cut = &packed[..packed.len() / 2];
        let within = pack(&json!([entry]).to_string()).unwrap();
        let services = json!({"good": packed, "cut": cut, "list": [entry], "within": within, "text": "secret", "none": null});
        let mut plan = json!({"services": services});
        unpack_within(&mut plan, &mut MOST_PACKED.clone()).unwrap();
        hide(&mut plan);
        assert!(!plan.to_string().contains("secret") && !plan.to_string().contains(cut), "{plan}");
        assert_eq!(plan["services"]["good"]["tracing"]["headers"]["authorization"], "(hidden)");
        for name in ["cut", "list", "within", "text", "none"] {
            assert_eq!(plan["services"][name], UNREADABLE, "{name}");
        }
        table(&[json!({"proxy": "a", "name": "meltemi", "plan": plan})]);
    }

    #[test]
    fn services_that_are_none_are_not_shown() {
        let entry = json!({"protocol": "dubbo", "tracing": {"headers": {"authorization": "Bearer secret"}}});
        let packed = pack(&json!({"a": entry}).to_string()).unwrap();
        for services in [json!([entry]), json!("secret"), json!(packed)] {
            let mut plan = json!({"services": services});
            unpack_within(&mut plan, &mut MOST_PACKED.clone()).unwrap();
            hide(&mut plan);
            assert!(!plan.to_string().contains("secret") && !plan.to_string().contains(&packed), "{plan}");
        }
    }

    #[test]
    fn what_collectors_are_told_is_not_shown() {
        let secret = "Bearer secret";
        let entry = |headers: Value| json!({"protocol": "dubbo", "tracing": {"collector": "otel", "headers": headers}});
        let services = json!({
            "a": entry(json!({"authorization": secret, "x-list": [secret]})),
            "b": entry(json!([secret])),
            "c": entry(json!(secret)),
            "d": {"protocol": "dubbo", "tracing": secret},
            "e": {"protocol": "dubbo", "tracing": [{"headers": {"authorization": secret}}]},
        });
        let mut plan = json!({"services": services});
        hide(&mut plan);
        assert!(!plan.to_string().contains("secret"), "{plan}");
        let headers = json!({"authorization": "(hidden)", "x-list": "(hidden)"});
        assert_eq!(plan["services"]["a"], entry(headers));
        for mut other in [json!({"version": 1}), json!([]), json!("text")] {
            let given = other.clone();
            hide(&mut other);
            assert_eq!(other, given);
        }
    }
}
