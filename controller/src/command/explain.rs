use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use meltemi_codecs::Codecs;
use meltemi_codecs::Head;
use meltemi_proxy::plan::{OnNoMatch, Plan, Span, TokenBucket};
use serde_json::{Value, json};

use super::{Format, Inputs, findings, print};
use crate::check::AUTO;
use crate::generate::{Authority, Entry, Origin, Scope};
use crate::input::Resources;
use crate::mesh::Mesh;
use crate::plain::Plain;
use crate::screen;

/// Tells which route a call meets.
#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    inputs: Inputs,
    /// The host of the service: in full, or its first labels.
    #[arg(long, required_unless_present = "gateway")]
    host: Option<String>,
    /// The port that the call comes by: of the service, of its pods with --inbound, of the gateway with --gateway.
    #[arg(long)]
    port: Option<u16>,
    /// The namespace of the client. Default: one that sees the service, its own if that does.
    #[arg(long, value_name = "NAMESPACE", conflicts_with_all = ["gateway", "inbound"])]
    client_namespace: Option<String>,
    /// The Istio Gateway that the call comes by, as namespace/name.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = gateway, conflicts_with_all = ["host", "inbound"])]
    gateway: Option<String>,
    /// What the server's own sidecar does with the call.
    #[arg(long)]
    inbound: bool,
    /// An attribute of the call, such as method=sayHello.
    #[arg(long = "attribute", short, value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// Write JSON or YAML.
    #[arg(long, short, value_enum)]
    output: Option<Format>,
    #[command(flatten)]
    mesh: Mesh,
}

fn gateway(text: &str) -> Result<String, &'static str> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err("write namespace/name, as in istio-system/edge"),
    }
}

fn attribute(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as in method=sayHello"),
    }
}

/// An entry of a plan, and the namespace of the proxies that have it.
type Planned<'a> = (&'a str, &'a Entry);

impl Explain {
    /// Writes which route takes the call, what happens to it there, and why the routes before it do not take it.
    ///
    /// # Errors
    ///
    /// A file could not be read, or there is no such service.
    pub fn run(&self) -> Result<ExitCode, String> {
        let mut resources = self.inputs.resources()?;
        resources.world.assume_addresses();
        let (output, found) = resources.generate(&self.mesh.plans());
        findings::tell(&found.iter().filter(|one| one.is_error()).cloned().collect::<Vec<_>>());
        let entries: Vec<Planned<'_>> = output.entries().collect();
        let entry = self.choose(&entries)?;
        let explained = self.explain(entry, &resources)?;
        match self.output {
            Some(Format::Json) => print(&format!("{explained:#}\n"))?,
            Some(Format::Yaml) => {
                print(&serde_saphyr::to_string(&explained).map_err(|error| error.to_string())?)?;
            }
            Some(Format::Table) | None => tell(&explained),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The entry that is asked for.
    fn choose<'a>(&self, entries: &[Planned<'a>]) -> Result<Planned<'a>, String> {
        let is_meant = |(namespace, entry): &&Planned<'_>| {
            let authority = &entry.authority;
            let is_named = match (authority.scope, &self.gateway) {
                (Scope::Gateway, Some(gateway)) => authority.of == *gateway,
                (Scope::Clients, None) => {
                    !self.inbound
                        && self.client_namespace.as_deref().is_none_or(|client| client == *namespace)
                }
                (Scope::Servers, None) => self.inbound,
                _ => false,
            };
            let host = self.host.as_deref();
            let is_host = host.is_none_or(|host| begins_with_labels(&authority.of, host));
            is_named && is_host && self.port.is_none_or(|port| port == authority.port)
        };
        let meant: Vec<&Planned<'_>> = entries.iter().filter(is_meant).collect();
        let authorities: BTreeSet<String> =
            meant.iter().map(|(_, entry)| entry.authority.to_string()).collect();
        if authorities.len() > 1 {
            let several: Vec<String> = authorities.into_iter().collect();
            return Err(format!("ambiguous: {}; narrow it with --host or --port", several.join(", ")));
        }
        let is_own = |(namespace, entry): &&&Planned<'_>| entry.authority.namespace == *namespace;
        let chosen = meant.iter().find(is_own).or(meant.first()).map(|chosen| **chosen);
        chosen.ok_or_else(|| {
            let known: BTreeSet<String> = entries.iter().map(|(_, entry)| entry.authority.to_string()).collect();
            match known.is_empty() {
                true => "nothing is managed: no port of a service in the files is called tcp-metaprotocol-<protocol> \
                    or has the appProtocol meltemi.io/<protocol>, with a codec that the module has"
                    .to_owned(),
                false => format!(
                    "no such service is managed; those that are: {}",
                    known.into_iter().collect::<Vec<_>>().join(", ")
                ),
            }
        })
    }

    fn explain(&self, (namespace, entry): Planned<'_>, resources: &Resources) -> Result<Value, String> {
        let plan = plan(entry)?;
        let authority = entry.authority.to_string();
        let service = plan.service(&authority).ok_or("the plan has no such service")?;
        let written = entry.plan.value();
        let mut head = Head::new();
        self.attributes.iter().for_each(|(name, value)| head.push(name, value));
        let explanation = service.explain(&head);
        let routes: Vec<&Value> = written["routes"].as_array().into_iter().flatten().collect();
        let route = |name: &str| routes.iter().find(|route| route["name"] == name).copied();
        let origin = |name: &str| origin(name, entry, resources);
        let passed_over: Vec<Value> = explanation
            .passed_over
            .iter()
            .map(|passed| json!({"route": passed.route.name, "origin": origin(&passed.route.name), "because": passed.reasons}))
            .collect();
        let (outcome, route, name) = match explanation.matched {
            Some(matched) => ("route", route(&matched.name), Some(&*matched.name)),
            None if service.on_no_match == OnNoMatch::Reject => ("rejected", None, None),
            None => ("default", written.get("defaultRoute"), None),
        };
        let is_told = |name: &str| self.attributes.iter().any(|(known, _)| known == name);
        let conditions = written["localRateLimit"]["conditions"].as_array().into_iter().flatten();
        let asked: BTreeSet<&str> = routes
            .iter()
            .copied()
            .chain(conditions)
            .flat_map(attributes)
            .filter(|name| !is_told(name))
            .collect();
        let bucket = service.local_rate_limit.as_ref().and_then(|limit| limit.bucket(&head));
        Ok(json!({
            "service": authority,
            "protocol": written["protocol"],
            "namespace": namespace,
            "gateway": self.gateway,
            "outcome": outcome,
            "route": name,
            "origin": name.map(origin),
            "match": route.and_then(|route| route.get("match")),
            "limit": bucket.map(limit),
            "does": (outcome != "rejected").then(|| does(route)),
            "clusters": clusters(written, route, authority_cluster(&entry.authority)),
            "passedOver": passed_over,
            "attributesNotGiven": asked,
        }))
    }
}

/// Whether a host is `labels`, or begins with them.
fn begins_with_labels(host: &str, labels: &str) -> bool {
    host.strip_prefix(labels).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The plan of one service, as the filter reads it. A codec that this command does not have is replaced by another:
/// which route matches does not depend on it.
fn plan(entry: &Entry) -> Result<Plan, String> {
    let mut service = entry.plan.value().clone();
    let codecs = Codecs::all();
    let is_foreign =
        |name: &Value| name.as_str().is_none_or(|name| name != AUTO && codecs.get(name).is_none());
    if is_foreign(&service["protocol"])
        || service["protocols"].as_array().into_iter().flatten().any(is_foreign)
    {
        service["protocol"] = codecs.names().next().into();
        service["protocols"] = json!([]);
        for route in service["routes"].as_array_mut().into_iter().flatten() {
            // Statuses are called by the protocol's names.
            if let Some(retry) = route.get_mut("retry") {
                *retry = json!({});
            }
        }
        if let Some(retry) = service.get_mut("defaultRoute").and_then(|route| route.get_mut("retry")) {
            *retry = json!({});
        }
    }
    let plan = json!({"services": {entry.authority.to_string(): service}});
    Plan::parse(plan.to_string().as_bytes(), &codecs)
        .map_err(|error| format!("the filter refuses the plan: {error}"))
}

/// How many calls pass, those that take the same tokens as this one.
fn limit(bucket: &TokenBucket) -> Value {
    let interval = u64::try_from(bucket.fill_interval.as_millis()).unwrap_or(u64::MAX);
    json!({
        "maxTokens": bucket.max_tokens,
        "tokensPerFill": bucket.tokens_per_fill,
        "fillInterval": Span::from_millis(interval).to_string(),
    })
}

/// The attributes that a route, or the condition of a limit, asks for.
fn attributes(route: &Value) -> Vec<&str> {
    let alternatives = route["match"].as_array().into_iter().flatten();
    let asked = alternatives.filter_map(|alternative| alternative["attributes"].as_object());
    asked.flat_map(|asked| asked.keys().map(String::as_str)).collect()
}

/// What happens to the calls of a route, as the plan has it: all but its name and match.
fn does(route: Option<&Value>) -> Value {
    let mut does = route.cloned().unwrap_or_else(|| json!({}));
    if let Some(does) = does.as_object_mut() {
        does.remove("name");
        does.remove("match");
    }
    does
}

/// The cluster that Istio has for a port.
fn authority_cluster(authority: &Authority) -> String {
    format!("outbound|{}||{}", authority.port, authority.of)
}

/// What holds for the clusters that a route's calls may go to, by their names.
fn clusters(written: &Value, route: Option<&Value>, default: String) -> Value {
    let route = route.unwrap_or(&Value::Null);
    let weighted = route["weightedClusters"].as_array().into_iter().flatten().map(|one| &one["cluster"]);
    let named = weighted.chain([&route["cluster"]]).filter_map(Value::as_str);
    let mut named: Vec<&str> = named.collect();
    if named.is_empty() {
        named.push(&default);
    }
    let upstream = &written["upstream"];
    let of_cluster = |name: &str| {
        let mut policy = upstream["clusters"].get(name).cloned();
        if let Some(of_all) = upstream.get("adaptiveConcurrency") {
            policy.get_or_insert_with(|| json!({}))["adaptiveConcurrency"] = of_all.clone();
        }
        Some((name.to_owned(), policy?))
    };
    named.into_iter().filter_map(of_cluster).collect::<serde_json::Map<_, _>>().into()
}

/// The resource that a route is of.
fn origin(name: &str, entry: &Entry, resources: &Resources) -> Value {
    let found = entry.plan.origins().iter().find(|origin| origin.route == name);
    found.map_or(Value::Null, |Origin { resource, path, .. }| {
        let at = resources.origin(resource, path).map(|origin| origin.to_string());
        json!({"resource": resource.to_string(), "path": path, "at": at})
    })
}

/// The explanation for people.
fn tell(explained: &Value) {
    let text = |value: &Value| Plain(value.as_str().unwrap_or_default()).to_string();
    let whom = match explained["gateway"].as_str() {
        Some(gateway) => format!("by the gateway {gateway}"),
        None => format!("as the sidecars of {} have it", text(&explained["namespace"])),
    };
    screen::title(format_args!("{} ({}), {whom}", text(&explained["service"]), text(&explained["protocol"])));
    for passed in explained["passedOver"].as_array().into_iter().flatten() {
        screen::verdict(false, text(&passed["route"]));
        for reason in passed["because"].as_array().into_iter().flatten() {
            screen::detail(text(reason));
        }
    }
    let rejects = explained["does"].get("reject").is_some();
    match &*text(&explained["outcome"]) {
        "route" => screen::verdict(!rejects, text(&explained["route"])),
        "default" if rejects => screen::verdict(false, "no route matches the call"),
        "rejected" => screen::verdict(false, "no route matches the call: it is answered with an error"),
        _ => screen::verdict(true, "no route matches the call: it takes the default route"),
    }
    let origin = &explained["origin"];
    if origin.is_object() {
        let at = origin["at"].as_str().map(|at| format!(" ({at})")).unwrap_or_default();
        screen::say(format_args!("  from      {}, {}{at}", text(&origin["resource"]), text(&origin["path"])));
    }
    if let Some(limit) = explained["limit"].as_object() {
        screen::say(format_args!(
            "  limit     {} calls at once, and {} more every {}",
            limit["maxTokens"],
            limit["tokensPerFill"],
            text(&limit["fillInterval"])
        ));
    }
    for line in lines(&explained["does"]) {
        screen::say(format_args!("  {line}"));
    }
    for (name, policy) in explained["clusters"].as_object().into_iter().flatten() {
        for line in of_cluster(policy) {
            screen::say(format_args!("  {line}, to {}", Plain(name)));
        }
    }
    let asked: Vec<String> =
        explained["attributesNotGiven"].as_array().into_iter().flatten().map(text).collect();
    if !asked.is_empty() {
        screen::line("");
        screen::say(format_args!(
            "Routes also match on {} (not given, so assumed absent).",
            asked.join(", ")
        ));
    }
}

/// What holds for the calls to a cluster, a line for each policy.
fn of_cluster(policy: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(names) = policy["hashBy"].as_array() {
        let names: Vec<String> =
            names.iter().filter_map(Value::as_str).map(|name| Plain(name).to_string()).collect();
        lines.push(format!("hashed    by {}", names.join(", ")));
    }
    let of_breaker =
        [("maxCalls", "calls at once"), ("maxWaitingCalls", "that wait"), ("maxRetries", "on a retry")];
    let limits: Vec<String> = of_breaker
        .iter()
        .filter_map(|(field, what)| Some(format!("{} {what}", policy["circuitBreaker"].get(field)?)))
        .collect();
    if !limits.is_empty() {
        lines.push(format!("at most   {}", limits.join(", ")));
    }
    if let Some(rule) = policy["adaptiveConcurrency"].as_object() {
        let number = |field: &str, default: u64| rule.get(field).and_then(Value::as_u64).unwrap_or(default);
        lines.push(format!(
            "adaptive  {} to {} calls at once, fewer the longer answers take",
            number("minConcurrency", 3),
            number("maxConcurrencyLimit", 1000)
        ));
    }
    if policy["keepWeights"] == true {
        lines.push("weights   kept, as often as Envoy chooses an endpoint".to_owned());
    }
    if let Some(rule) = policy["outlierDetection"].as_object() {
        let text = |field: &str| rule.get(field).cloned().unwrap_or_default();
        let time = text("baseEjectionTime");
        let time = time.as_str().unwrap_or_default();
        lines.push(format!(
            "outliers  left out after {} failures in a row, for {}",
            text("consecutiveFailures"),
            Plain(time)
        ));
    }
    lines
}

/// What happens to a call, a line for each policy.
fn lines(does: &Value) -> Vec<String> {
    let Some(does) = does.as_object() else { return Vec::new() };
    let text =
        |value: &Value| value.as_str().map_or_else(|| value.to_string(), |text| Plain(text).to_string());
    let list =
        |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let mut lines = Vec::new();
    if let Some(reject) = does.get("reject") {
        lines.push(format!("rejected  {}", reject.get("message").map(text).unwrap_or_default()));
    } else if let Some(cluster) = does.get("cluster") {
        lines.push(format!("goes to   {}", text(cluster)));
    } else if let Some(clusters) = does.get("weightedClusters").and_then(Value::as_array) {
        let total: f64 = clusters.iter().filter_map(|one| one["weight"].as_f64()).sum();
        for one in clusters {
            let share = one["weight"].as_f64().unwrap_or_default() * 100.0 / total;
            lines.push(format!("goes to   {} ({share:.0} %)", text(&one["cluster"])));
        }
    } else {
        lines.push("goes to   the cluster that Istio chose".to_owned());
    }
    let callers = match does.get("propagateDeadline").and_then(Value::as_bool) {
        Some(true) => ", or the client's if that is shorter",
        Some(false) => ", whatever the client's",
        None => "",
    };
    lines.push(format!("timeout   {}{callers}", does.get("timeout").map_or_else(|| "none".to_owned(), text)));
    lines.push(match does.get("retry") {
        None => "retries   none".to_owned(),
        Some(retry) => {
            let attempts = retry.get("attempts").map_or_else(|| "1".to_owned(), text);
            let on = retry.get("on").map_or_else(|| "connect-failure".to_owned(), list);
            let statuses = retry.get("statuses").map(|all| format!(" ({})", list(all))).unwrap_or_default();
            let each = retry
                .get("perTryTimeout")
                .map(|each| format!("; each try {}", text(each)))
                .unwrap_or_default();
            format!("retries   {attempts}, after {on}{statuses}{each}")
        }
    });
    if let Some(hedge) = does.get("retry").and_then(|retry| retry.get("hedge")) {
        let percentile = |percent| format!("the {}th percentile of the route's calls", text(percent));
        let times = [hedge.get("after").map(text), hedge.get("percentile").map(percentile)];
        let times: Vec<_> = times.into_iter().flatten().collect();
        let later = if times.len() > 1 { ", whichever is later" } else { "" };
        lines.push(format!("hedge     a second try after {}{later}", times.join(" or ")));
    }
    let fault = &does.get("fault").cloned().unwrap_or_default();
    let percent = |part: &Value| part["percent"].as_f64().unwrap_or(100.0);
    if let Some(delay) = fault.get("delay") {
        lines.push(format!("delay     {} % of the calls, by {}", percent(delay), text(&delay["duration"])));
    }
    if let Some(abort) = fault.get("abort") {
        let message = abort.get("message").map(|message| format!(": {}", text(message))).unwrap_or_default();
        lines.push(format!("abort     {} % of the calls{message}", percent(abort)));
    }
    for mirror in does.get("mirrors").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("copies    {} % of the calls, to {}", percent(mirror), text(&mirror["cluster"])));
    }
    for (field, name) in [("requestAttachments", "request "), ("responseAttachments", "response")] {
        let Some(edit) = does.get(field) else { continue };
        for (key, value) in edit["set"].as_object().into_iter().flatten() {
            lines.push(format!("{name}  sets {}: {}", Plain(key), text(value)));
        }
        for (field, word) in [("addIfAbsent", "adds, if absent,"), ("append", "appends to")] {
            for (key, value) in edit[field].as_object().into_iter().flatten() {
                lines.push(format!("{name}  {word} {}: {}", Plain(key), text(value)));
            }
        }
        for key in edit["remove"].as_array().into_iter().flatten() {
            lines.push(format!("{name}  removes {}", text(key)));
        }
    }
    lines
}
