use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Error, ResourceExt};
use tokio::time::timeout;

use super::reach::{Question, Reach};
use crate::install;
use crate::words;

/// The container that has the proxy.
pub(crate) const CONTAINER: &str = "istio-proxy";

/// How many proxies are asked at a time.
pub(crate) const PARALLEL: usize = 16;

/// How long the API server may take for an answer: a list of thousands of pods takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which proxies are asked.
#[derive(Debug, Args)]
pub struct Which {
    /// Pods of the kubeconfig's cluster, by name, or by namespace/name. Default: all with a proxy in the namespace.
    #[arg(value_name = "PODS", conflicts_with_all = ["admin", "all_namespaces", "selector"])]
    pods: Vec<String>,
    /// Ask the Envoy whose admin interface is here, such as 127.0.0.1:15000, and no cluster. May be repeated.
    #[arg(long, value_name = "ADDRESS")]
    admin: Vec<String>,
    /// The namespace. Default: the kubeconfig's.
    #[arg(long, short, value_name = "NAMESPACE", conflicts_with = "admin")]
    namespace: Option<String>,
    /// All namespaces.
    #[arg(long, short = 'A', conflicts_with_all = ["admin", "namespace"])]
    all_namespaces: bool,
    /// Only pods with these labels, as for kubectl.
    #[arg(long, short = 'l', value_name = "LABELS", conflicts_with = "admin")]
    selector: Option<String>,
}

/// A proxy that may be asked.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    /// The pod, as namespace/name, or the address.
    pub(crate) name: String,
    /// The pod that it is in.
    pub(super) pod: Option<Site>,
    reach: Reach,
}

/// What of a pod decides which objects are for its proxy.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) namespace: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) is_gateway: bool,
}

impl Proxy {
    /// The answer of its admin interface.
    ///
    /// # Errors
    ///
    /// There is none, or it is an error.
    pub(crate) async fn get(&self, question: Question) -> Result<String, String> {
        let answer = self.reach.find(question).await?;
        answer.ok_or_else(|| format!("it has no {}: is this an admin interface of Envoy?", question.path))
    }

    /// The answer; none if it has nothing there.
    ///
    /// # Errors
    ///
    /// There is none, or it is an error.
    pub(super) async fn find(&self, question: Question) -> Result<Option<String>, String> {
        self.reach.find(question).await
    }
}

impl Which {
    /// All of the cluster.
    pub(crate) fn everywhere() -> Self {
        Self { pods: Vec::new(), admin: Vec::new(), namespace: None, all_namespaces: true, selector: None }
    }

    /// The cluster to ask, if it is one.
    pub(super) async fn cluster(&self) -> Result<Option<Client>, String> {
        match self.admin.is_empty() {
            true => match install::connect().await {
                Ok(client) => Ok(Some(client)),
                Err(why) => Err(format!("{why}; --admin asks an Envoy without a cluster")),
            },
            false => Ok(None),
        }
    }

    fn namespace_or_default<'a>(&'a self, client: &'a Client) -> &'a str {
        self.namespace.as_deref().unwrap_or_else(|| client.default_namespace())
    }

    /// The namespace to look in; `None` for all.
    pub(super) fn namespace<'a>(&'a self, client: &'a Client) -> Option<&'a str> {
        (!self.all_namespaces).then(|| self.namespace_or_default(client))
    }

    /// The proxies, in the order of their names, or as they were given.
    ///
    /// # Errors
    ///
    /// There is no cluster, or no such proxy in it.
    pub(crate) async fn proxies(&self) -> Result<Vec<Proxy>, String> {
        match self.cluster().await? {
            Some(client) => self.of_cluster(&client).await,
            None => Ok(self.addresses()),
        }
    }

    fn addresses(&self) -> Vec<Proxy> {
        let proxy = |address: &String| {
            let address = address.trim_start_matches("http://").trim_end_matches('/');
            Proxy { name: address.to_owned(), pod: None, reach: Reach::Address(address.to_owned()) }
        };
        self.admin.iter().map(proxy).collect()
    }

    /// Those of the cluster.
    pub(super) async fn of_cluster(&self, client: &Client) -> Result<Vec<Proxy>, String> {
        let namespace = self.namespace_or_default(client);
        let mut proxies = Vec::new();
        for pod in &self.pods {
            let (namespace, name) = pod.split_once('/').unwrap_or((namespace, pod));
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            let pod = in_time(pods.get(name)).await;
            let pod = pod.map_err(|error| format!("pod {namespace}/{name}: {}", words::cluster(&error)))?;
            proxies.push(proxy(&pod, client).ok_or_else(|| {
                format!("pod {namespace}/{name} has no running container {CONTAINER}: is it in the mesh?")
            })?);
        }
        if !self.pods.is_empty() {
            return Ok(proxies);
        }
        let pods: Api<Pod> = match self.all_namespaces {
            true => Api::all(client.clone()),
            false => Api::namespaced(client.clone(), namespace),
        };
        let params = ListParams { label_selector: self.selector.clone(), ..ListParams::default() };
        let list = in_time(pods.list(&params)).await;
        let list = list.map_err(|error| format!("cannot list pods: {}", words::cluster(&error)))?;
        proxies.extend(list.iter().filter_map(|pod| proxy(pod, client)));
        match proxies.is_empty() {
            true => Err(match self.all_namespaces {
                true => "no pod that runs has a container istio-proxy".to_owned(),
                false => format!(
                    "no pod that runs in namespace {namespace} has a container {CONTAINER}; --all-namespaces (-A) looks everywhere, --admin asks an Envoy without a cluster"
                ),
            }),
            false => Ok(proxies),
        }
    }
}

/// The container of a pod's proxy, if it has one that runs.
fn container(pod: &Pod) -> Option<&Container> {
    let is_running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let spec = pod.spec.as_ref().filter(|_| is_running && pod.metadata.deletion_timestamp.is_none())?;
    // A native sidecar is an init container that goes on.
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.find(|container| container.name == CONTAINER)
}

/// The proxy of a pod, if it has one that runs.
fn proxy(pod: &Pod, client: &Client) -> Option<Proxy> {
    let container = container(pod)?;
    let (namespace, name) = (pod.namespace()?, pod.name_any());
    let site = Site {
        namespace: namespace.clone(),
        labels: pod.labels().clone(),
        is_gateway: container.args.iter().flatten().any(|argument| argument == "router"),
    };
    let pods = Api::namespaced(client.clone(), &namespace);
    Some(Proxy {
        name: format!("{namespace}/{name}"),
        pod: Some(site),
        reach: Reach::Pod(Box::new(pods), name),
    })
}

/// What the API server answers, or that it does not: a connection to one that is gone tells nothing of it.
pub(crate) async fn in_time<T>(answer: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let nothing = |_| Err(Error::Service(format!("nothing within {} s", PATIENCE.as_secs()).into()));
    timeout(PATIENCE, answer).await.unwrap_or_else(nothing)
}

/// The objects of a kind, of which there are none where the cluster has not the kind.
pub(super) async fn listed(
    api: &Api<DynamicObject>,
    params: &ListParams,
    kind: &ApiResource,
) -> Result<Vec<DynamicObject>, String> {
    match in_time(api.list(params)).await {
        Ok(list) => Ok(list.items),
        Err(Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(format!("cannot list {}: {}", kind.plural, words::cluster(&error))),
    }
}

/// Whether a pod has a proxy that runs.
pub(crate) fn has_proxy(pod: &Pod) -> bool {
    container(pod).is_some()
}

/// Asks many proxies at a time, and hands over the answers in their order. What is made of an answer is kept, and of the
/// answers themselves no more than are under way.
pub(crate) async fn ask_each<F: Future>(
    proxies: &[Proxy],
    ask: impl Fn(Proxy) -> F,
    mut take: impl FnMut(&Proxy, F::Output),
) {
    let mut answers = futures::stream::iter(proxies.to_vec()).map(ask).buffered(PARALLEL);
    for proxy in proxies {
        if let Some(answer) = answers.next().await {
            take(proxy, answer);
        }
    }
}

/// Asks many proxies at a time; the answers are in their order.
pub(crate) async fn ask_all<F: Future>(proxies: &[Proxy], ask: impl Fn(Proxy) -> F) -> Vec<F::Output> {
    let mut all = Vec::with_capacity(proxies.len());
    ask_each(proxies, ask, |_, answer| all.push(answer)).await;
    all
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        which: Which,
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_silent_is_not_waited_for() {
        let error = in_time(std::future::pending::<kube::Result<()>>()).await.unwrap_err();
        let why = "the API server of the kubeconfig does not answer: nothing within 30 s";
        assert_eq!(words::cluster(&error), why);
    }

    #[tokio::test]
    async fn answers_are_taken_while_others_are_asked_for() {
        let admins: Vec<String> = (0..3 * PARALLEL).map(|port| format!("--admin=127.0.0.1:{port}")).collect();
        let arguments = std::iter::once("top").chain(admins.iter().map(String::as_str));
        let proxies = Command::parse_from(arguments).which.proxies().await.unwrap();
        let (asked, mut taken) = (Cell::new(0), Vec::new());
        let ask = |proxy: Proxy| {
            asked.set(asked.get() + 1);
            async move { proxy.name }
        };
        ask_each(&proxies, ask, |proxy, answer| {
            assert_eq!(answer, proxy.name);
            taken.push(answer);
            assert!(asked.get() <= taken.len() + PARALLEL, "{} asked, {} taken", asked.get(), taken.len());
        })
        .await;
        assert_eq!(taken.len(), proxies.len());
    }

    #[test]
    fn pods_are_named_or_selected() {
        let read = |arguments: &[&str]| Command::try_parse_from([&["top"], arguments].concat());
        let named = read(&["cart-1", "pay/pay-1", "-n", "shop"]).unwrap();
        assert_eq!(named.which.pods, ["cart-1", "pay/pay-1"]);
        // What would have no effect is refused.
        for wrong in
            [&["cart-1", "-l", "app=pay"][..], &["cart-1", "-A"], &["cart-1", "--admin", "127.0.0.1:15000"]]
        {
            let why = read(wrong).unwrap_err().to_string();
            assert!(why.contains("cannot be used with"), "{wrong:?}: {why}");
        }
    }
}
