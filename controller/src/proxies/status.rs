//! `meltemi proxy-status`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use k8s_openapi::jiff::Timestamp;
use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;
use serde::Serialize;
use serde_json::Value;

use super::block_on;
use super::dump::{self, Given};
use super::stats::{self, label_value};
use super::tags;
use super::wanted::{self, Wanted, difference, is_same};
use super::which::{Proxy, Which, ask_all};
use crate::command::{findings, print, print_json};
use crate::plain::Plain;
use crate::validate::Source;
use crate::words;

/// Tells which plan each proxy has.
#[derive(Debug, Args)]
pub struct ProxyStatus {
    #[command(flatten)]
    which: Which,
    /// The plan that the Envoys of --admin should have: a plan, or the file that Envoy watches. Of a cluster, it is what the
    /// controller keeps there.
    #[arg(long, value_name = "FILE", requires = "admin")]
    wanted: Option<PathBuf>,
    /// How the result is written.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Form,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people, with a line for each.
    Table,
    /// For programs.
    Json,
}

/// What a proxy has of one plan.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    proxy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
    state: State,
    /// Why it is so, and what to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<Module>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

/// The module that a proxy runs.
#[derive(Debug, PartialEq, Serialize)]
struct Module {
    /// The version that it says it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<String>,
    /// The digest of its code, or where that is from.
    code: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    /// What is wanted is in force.
    InForce,
    /// Nothing of Meltemi is wanted, nor there.
    Unmanaged,
    /// Envoy has the plan, its module not yet.
    Behind,
    /// Envoy has another plan than is wanted.
    Stale,
    /// The module refuses the plan, and goes on by the one before.
    Refused,
    /// Envoy has the plan, and no module tells of it.
    NotLoaded,
    /// A plan is wanted, and Envoy has none.
    Missing,
    /// The proxy does not answer.
    Unreachable,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Unmanaged => "not managed",
            Self::Behind => "behind",
            Self::Stale => "stale",
            Self::Refused => "refused",
            Self::NotLoaded => "not loaded",
            Self::Missing => "missing",
            Self::Unreachable => "unreachable",
        }
    }
}

impl ProxyStatus {
    /// Prints it. The exit code is 1 unless what is wanted is in force everywhere.
    ///
    /// # Errors
    ///
    /// The cluster, or the file with what is wanted, could not be read.
    pub fn run(&self) -> Result<ExitCode, String> {
        let file = self.wanted.as_deref().map(plan_of).transpose()?;
        let rows = block_on(all(&self.which, file))?;
        match self.output {
            Form::Table => print(&table(&rows, Timestamp::now()))?,
            Form::Json => print_json(&rows)?,
        }
        let is_fine = |row: &Row| matches!(row.state, State::InForce | State::Unmanaged);
        Ok(if rows.iter().all(is_fine) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What each proxy has of each plan. `file` is the plan that the Envoys of --admin should have.
///
/// # Errors
///
/// The cluster could not be read.
pub(crate) async fn all(which: &Which, file: Option<Value>) -> Result<Vec<Row>, String> {
    let (proxies, wanted) = match which.cluster().await? {
        Some(client) => {
            let proxies = which.of_cluster(&client).await?;
            let namespaces =
                proxies.iter().filter_map(|proxy| Some(&*proxy.pod.as_ref()?.namespace)).collect();
            let namespaces = which.namespace(&client).map(|_| &namespaces);
            let wanted = wanted::in_cluster(&client, namespaces).await?;
            (proxies, wanted)
        }
        None => (which.proxies().await?, file.map(Wanted::alone).into_iter().collect()),
    };
    let answers = ask_all(&proxies, |proxy| async move { ask(&proxy).await }).await;
    let rows = proxies.iter().zip(answers).flat_map(|(proxy, answer)| match answer {
        Ok(answer) => rows(proxy, &answer, &wanted),
        Err(why) => vec![Row::of(proxy, State::Unreachable, why)],
    });
    Ok(rows.collect())
}

/// The plan in a file.
fn plan_of(file: &Path) -> Result<Value, String> {
    let name = file.display();
    let text = fs::read_to_string(file);
    let text = text.map_err(|error| format!("cannot read {name}: {}", words::file(&error)))?;
    let source = Source::read(&name.to_string(), &text)
        .map_err(|error| format!("{name}: {}", words::yaml(&error).1))?;
    serde_json::from_str(&source.plan).map_err(|error| format!("{name}: not JSON: {error}"))
}

/// What a proxy says of itself.
struct Answer {
    given: Vec<Given>,
    /// What is in force and what is refused, by plugin and version of the module.
    told: BTreeMap<String, BTreeMap<String, Told>>,
    /// Why it counts none of Istio's metrics, where a plan wants them.
    uncounted: Option<String>,
}

/// The digests of the plan that is in force in a module, and of one that it refuses; 0 where there is none.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    in_force: u64,
    refused: u64,
}

async fn ask(proxy: &Proxy) -> Result<Answer, String> {
    let (given, counted) = tokio::try_join!(dump::ask(proxy), proxy.get(stats::QUESTION))?;
    let mut told: BTreeMap<String, BTreeMap<String, Told>> = BTreeMap::new();
    for sample in stats::samples(&counted) {
        let builds = told.entry(sample.label("plugin").to_owned());
        match sample.metric {
            "plan_digest" => {
                builds.or_default().entry(sample.label("build").to_owned()).or_default().in_force =
                    sample.value
            }
            "plan_refused_digest" => {
                builds.or_default().entry(sample.label("build").to_owned()).or_default().refused =
                    sample.value
            }
            _ => {}
        }
    }
    let wants = |given: &Given| given.plan().is_ok_and(|plan| tags::are_wanted(&plan));
    let uncounted = match given.iter().any(wants) {
        // What it has of plans is known all the same.
        true => tags::ask(proxy)
            .await
            .unwrap_or_else(|why| Some(format!("whether it counts Istio's metrics is not known: {why}"))),
        false => None,
    };
    Ok(Answer { given, told, uncounted })
}

/// A row for each plan that a proxy has or should have.
fn rows(proxy: &Proxy, answer: &Answer, wanted: &[Wanted]) -> Vec<Row> {
    let site = proxy.pod.as_ref();
    let wanted: Vec<&Wanted> =
        wanted.iter().filter(|wanted| site.is_none_or(|site| wanted.is_for(site))).collect();
    let is_ours = |given: &&Given| {
        answer.told.contains_key(&label_value(&given.plugin))
            || given.resource.rsplit('/').next().is_some_and(|name| name.contains("meltemi"))
    };
    let given: Vec<&Given> = answer.given.iter().filter(is_ours).collect();
    let mut rows: Vec<Row> = given
        .iter()
        .map(|given| {
            let builds = answer.told.get(&label_value(&given.plugin));
            let wanted = wanted.iter().find(|wanted| wanted.is(given));
            row(proxy, given, builds.unwrap_or(&BTreeMap::new()), wanted.copied())
        })
        .collect();
    // It is of the proxy: one row says it.
    let in_force = rows.iter_mut().find(|row| row.state == State::InForce);
    if let (Some(why), Some(row)) = (&answer.uncounted, in_force) {
        row.why.clone_from(why);
    }
    for wanted in wanted.iter().filter(|wanted| !given.iter().any(|given| wanted.is(given))) {
        let why =
            "istiod has not delivered it: the pod is new, or `istioctl proxy-status` tells what is rejected";
        let why =
            if site.is_some() { why } else { "it runs no module: has its listener `config_discovery`?" };
        let plugin = Some(wanted.name.clone()).filter(|name| !name.is_empty());
        rows.push(Row { plugin, ..Row::of(proxy, State::Missing, why.to_owned()) });
    }
    if rows.is_empty() {
        rows.push(Row::of(proxy, State::Unmanaged, String::new()));
    }
    rows
}

fn row(proxy: &Proxy, given: &Given, builds: &BTreeMap<String, Told>, wanted: Option<&Wanted>) -> Row {
    let digest = given.digest();
    let has_taken = |told: &Told| told.in_force == digest;
    let running = builds.iter().find(|(_, told)| has_taken(told));
    let refusing = builds.iter().find(|(_, told)| told.refused == digest && !has_taken(told));
    // Other builds of the module may be left in Envoy with connections of theirs.
    let build = running.or(refusing).or(builds.last_key_value()).map(|(build, _)| build.clone());
    let plan = given.plan();
    let (state, why) = match (running, refusing, &plan) {
        (None, Some(_), _) => (State::Refused, refusal(given)),
        (Some(_), _, Ok(plan)) => match wanted {
            Some(wanted) if !is_same(&wanted.plan, plan) => {
                let what = difference(&wanted.plan, plan);
                (
                    State::Stale,
                    format!(
                        "another plan is wanted: {what}; wait a moment, then see whether istiod is behind"
                    ),
                )
            }
            _ => (State::InForce, String::new()),
        },
        _ if builds.is_empty() => {
            let why = "no module tells of it: it cannot be fetched or does not compile (see Envoy's log), no connection has \
                come, or it is older than this command";
            (State::NotLoaded, why.to_owned())
        }
        _ => (State::Behind, "the module has not taken it yet; if that stays so, see Envoy's log".to_owned()),
    };
    let services = plan.ok().and_then(|plan| plan["services"].as_object().map(serde_json::Map::len));
    let name = given.object().map_or(given.plugin.as_str(), |(_, name)| name);
    Row {
        plugin: Some(name.to_owned()),
        since: given.since.clone(),
        services: Some(services.unwrap_or_default()),
        module: Some(Module { build, code: given.code.clone() }),
        digest: Some(format!("{digest:08x}")),
        version: given.version.clone(),
        ..Row::of(proxy, state, why)
    }
}

/// Why the module refuses a plan, by the same code in this command.
fn refusal(given: &Given) -> String {
    let before = "the plan before stays in force";
    match Plan::parse(given.text.as_bytes(), &Codecs::all()) {
        Err(error) => format!("{error}; {before}"),
        Ok(_) => format!(
            "{before}. This command would take it: the module is of another version, whose reason is in Envoy's log \
             (`plan refused`); update the module"
        ),
    }
}

impl Row {
    fn of(proxy: &Proxy, state: State, why: String) -> Self {
        let proxy = proxy.name.clone();
        Self {
            proxy,
            state,
            why,
            plugin: None,
            since: None,
            services: None,
            module: None,
            digest: None,
            version: None,
        }
    }
}

fn table(rows: &[Row], now: Timestamp) -> String {
    let mut table = findings::columns(&["PROXY", "PLAN", "STATE", "AGE", "SERVICES", "MODULE", "WHY"]);
    for row in rows {
        let age = row.since.as_ref().and_then(|since| since.parse().ok()).map(|since| age(since, now));
        let module = row.module.as_ref().map(|module| {
            let short = words::shortened(&module.code, if module.code.len() == 64 { 15 } else { 48 });
            format!("{} {short}", module.build.as_deref().unwrap_or("?"))
        });
        let services = row.services.map(|services| services.to_string());
        let or_none = |text: Option<String>| Plain(text.unwrap_or_else(|| "-".to_owned())).to_string();
        table.add_row([
            or_none(Some(row.proxy.clone())),
            or_none(row.plugin.clone()),
            row.state.words().to_owned(),
            or_none(age),
            or_none(services),
            or_none(module),
            Plain(&row.why).to_string(),
        ]);
    }
    findings::rows(&table)
}

/// How long ago something was, as `kubectl` says it.
fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use axum::{Json, Router};
    use clap::Parser;
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        status: ProxyStatus,
    }

    #[tokio::test]
    async fn a_proxy_that_does_not_tell_its_version_has_its_rows() {
        let plan = json!({"metrics": {"istio": {}}}).to_string();
        let given = Given { text: plan.clone(), ..Given::default() };
        let dump = json!({"configs": [{"ecds_filter": {"name": "istio-system.meltemi", "typed_config": {"config": {
            "name": "meltemi", "configuration": {"value": plan},
        }}}}]});
        let counted =
            format!("wasmcustom.meltemi.plugin=.=meltemi;.;build=.=1;.;plan_digest: {}\n", given.digest());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new()
            .route("/config_dump", get(|| async { Json(dump) }))
            .route("/stats", get(|| async { counted }));
        tokio::spawn(axum::serve(listener, router).into_future());
        let command = Command::parse_from(["proxy-status", "--admin", &address]);
        let rows = all(&command.status.which, None).await.unwrap();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(row.state, State::InForce, "{row:?}");
        assert!(row.why.starts_with("whether it counts") && row.why.contains("/server_info"), "{row:?}");
    }
}
