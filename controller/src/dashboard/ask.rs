//! What proxies and the cluster are asked when the page wants it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::history::{self, History};
use super::traffic::RouteRates;
use crate::proxies::stats::label_value;
use crate::proxies::{self, Endpoint, Resource, Standing, Which};

/// How old an answer may be. Many browsers cost no more than one.
const FRESH: Duration = Duration::from_secs(4);

/// An answer that is given again while it is fresh.
#[derive(Debug)]
pub(super) struct Kept<T>(Mutex<Option<(Instant, Arc<T>)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    async fn get(&self, ask: impl AsyncFnOnce() -> Result<T, String>) -> Result<Arc<T>, String> {
        let mut kept = self.0.lock().await;
        if let Some((at, answer)) = &*kept
            && at.elapsed() < FRESH
        {
            return Ok(answer.clone());
        }
        let answer = Arc::new(ask().await?);
        *kept = Some((Instant::now(), answer.clone()));
        Ok(answer)
    }
}

/// Where the answers are from.
#[derive(Debug)]
pub(super) struct Sources {
    which: Arc<Which>,
    history: Arc<std::sync::Mutex<History>>,
    standings: Kept<Vec<Standing>>,
    plans: Kept<BTreeMap<String, Managed>>,
    endpoints: Kept<Vec<Endpoint>>,
    resources: Kept<Option<Vec<Resource>>>,
}

/// A service that plans manage.
#[derive(Debug, Clone, Serialize)]
struct Managed {
    /// The proxies that have it in this form.
    proxies: Vec<String>,
    /// Its entry in the plan.
    entry: Value,
    /// Others have it in another form: their sidecars may be behind, or in other namespaces.
    differs: bool,
}

/// A service that plans manage, in short.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    authority: String,
    protocol: String,
    routes: usize,
    proxies: usize,
    differs: bool,
    calls_per_second: f64,
}

/// The routes of one, in their order, with what each takes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Routes {
    authority: String,
    managed: Managed,
    calls_per_second: RouteRates,
}

impl Sources {
    pub(super) fn new(which: Arc<Which>, history: Arc<std::sync::Mutex<History>>) -> Self {
        Self {
            which,
            history,
            standings: Kept::default(),
            plans: Kept::default(),
            endpoints: Kept::default(),
            resources: Kept::default(),
        }
    }

    pub(super) fn history(&self) -> std::sync::MutexGuard<'_, History> {
        history::lock(&self.history)
    }

    pub(super) async fn standings(&self) -> Result<Arc<Vec<Standing>>, String> {
        self.standings.get(async || proxies::standings(&self.which, None).await).await
    }

    pub(super) async fn resources(&self) -> Result<Arc<Option<Vec<Resource>>>, String> {
        self.resources.get(async || proxies::resources(&self.which).await).await
    }

    pub(super) async fn endpoints(&self) -> Result<Arc<Vec<Endpoint>>, String> {
        let ask = async || Ok(proxies::endpoints(&self.which.proxies().await?).await);
        self.endpoints.get(ask).await
    }

    async fn managed(&self) -> Result<Arc<BTreeMap<String, Managed>>, String> {
        let ask = async || {
            let mut all = BTreeMap::new();
            proxies::plans(&self.which.proxies().await?, |proxy, plans| {
                plans.into_iter().flatten().for_each(|(_, plan)| add(&mut all, proxy, plan));
            })
            .await;
            Ok(all)
        };
        self.plans.get(ask).await
    }

    pub(super) async fn services(&self) -> Result<Vec<Summary>, String> {
        let managed = self.managed().await?;
        let history = self.history();
        let summary = |(authority, managed): (&String, &Managed)| Summary {
            authority: authority.clone(),
            protocol: protocol(&managed.entry),
            routes: managed.entry["routes"].as_array().map_or(0, Vec::len),
            proxies: managed.proxies.len(),
            differs: managed.differs,
            calls_per_second: history.routes(&label_value(authority)).values().sum(),
        };
        Ok(managed.iter().map(summary).collect())
    }

    /// The routes of a managed service; `None` if no plan has it.
    pub(super) async fn routes(&self, authority: &str) -> Result<Option<Routes>, String> {
        let all = self.managed().await?;
        Ok(all.get(authority).map(|managed| Routes {
            authority: authority.to_owned(),
            managed: managed.clone(),
            calls_per_second: by_name(self.history().routes(&label_value(authority)), &managed.entry),
        }))
    }
}

/// What is counted by routes, by their names in the plan: proxies count them by what labels may have of these.
fn by_name(mut counted: RouteRates, entry: &Value) -> RouteRates {
    let routes = entry["routes"].as_array().into_iter().flatten();
    for name in routes.filter_map(|route| route["name"].as_str()) {
        let label = label_value(name);
        if label != name
            && let Some(rate) = counted.remove(&label)
        {
            counted.insert(name.to_owned(), rate);
        }
    }
    counted
}

fn protocol(entry: &Value) -> String {
    let several = entry["protocols"]
        .as_array()
        .map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
    several.unwrap_or_else(|| entry["protocol"].as_str().unwrap_or("-").to_owned())
}

/// Adds the services of a proxy's plan to those that are known: each is as the first proxy has it.
fn add(all: &mut BTreeMap<String, Managed>, proxy: &str, mut plan: Value) {
    let services = plan.get_mut("services").and_then(Value::as_object_mut);
    for (authority, entry) in services.map(std::mem::take).unwrap_or_default() {
        let known = all.entry(authority).or_insert_with(|| Managed {
            proxies: Vec::new(),
            entry: entry.clone(),
            differs: false,
        });
        match known.entry == entry {
            true => known.proxies.push(proxy.to_owned()),
            false => known.differs = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_are_put_together() {
        let dubbo = json!({"protocol": "dubbo"});
        let mut all = BTreeMap::new();
        for (proxy, entry) in [("a", &dubbo), ("b", &json!({"protocols": ["dubbo", "brpc"]})), ("c", &dubbo)]
        {
            add(&mut all, proxy, json!({"services": {"demo:1": entry}}));
        }
        assert_eq!((all["demo:1"].proxies.join(" "), all["demo:1"].differs), ("a c".to_owned(), true));
        assert_eq!(protocol(&all["demo:1"].entry), "dubbo");
        assert_eq!(protocol(&json!({"protocols": ["dubbo", "brpc"]})), "dubbo, brpc");
    }

    #[test]
    fn routes_are_counted_whatever_their_names_have() {
        let counted = [("blue_green", 4.0), ("shop/stock/v2", 1.0), ("default", 2.0)];
        let counted = counted.map(|(name, rate)| (name.to_owned(), rate)).into();
        let entry =
            json!({"routes": [{"name": "blue green"}, {"name": "shop/stock/v2"}, {"name": "no~calls"}]});
        let expected = [("blue green", 4.0), ("shop/stock/v2", 1.0), ("default", 2.0)];
        assert_eq!(by_name(counted, &entry), expected.map(|(name, rate)| (name.to_owned(), rate)).into());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_failed_is_asked_for_again() {
        let kept = Kept::default();
        assert_eq!(kept.get(async || Err("down".to_owned())).await, Err("down".to_owned()));
        assert_eq!(kept.get(async || Ok(1)).await, Ok(1.into()));
        assert_eq!(kept.get(async || Ok(2)).await, Ok(1.into()), "it is fresh");
    }
}
