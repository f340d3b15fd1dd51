use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Error, Options, leftovers};
use crate::envoy::{self, Config, Envoy, Launch, PlanFile};
use crate::sample::{Call, Client, Server};
use crate::{checkout, module, screen};

/// The shipped configuration, and the plan that it watches.
const BOOTSTRAP: &str = include_str!("../../../envoy-configs/dubbo.yaml");
const PLAN: &str = include_str!("../../../envoy-configs/dubbo.plan.yaml");

/// File names in the shipped configuration, relative to the checkout's root.
const PLAN_FILE: &str = "envoy-configs/dubbo.plan.yaml";
const MODULE_FILE: &str = "target/wasm32-wasip1/module/meltemi.wasm";

/// The ports of the sample servers in the shipped configuration.
const V1_PORT: u16 = 20881;
const V2_PORT: u16 = 20882;

/// The method by which the demo asks which plan is in force, and the response attachment that says so.
const PROBE: &str = "plan";

/// The configurations that Envoy refused of those that the internal listener asked for.
const REFUSALS: &str = r"^extension_config_discovery\..*\.update_rejected$";

/// How long a plan may take to be in force.
pub const PLAN_LIMIT: Duration = Duration::from_secs(30);

/// Envoy between a client and two sample servers, with a plan that can be changed.
pub struct Stage {
    /// Where Dubbo clients connect to Meltemi.
    pub address: SocketAddr,
    /// Where they connect to Envoy's native dubbo_proxy.
    pub native: SocketAddr,
    /// Where they connect to a plain tcp_proxy.
    pub plain: SocketAddr,
    /// The first server.
    pub v1: Server,
    /// The second server.
    pub v2: Server,
    /// The one client connection of the demo.
    pub client: Client,
    /// Envoy.
    pub envoy: Envoy,
    plan: PlanFile,
    generation: u64,
    folder: PathBuf,
}

impl Stage {
    /// Starts everything.
    pub fn set(options: &Options) -> Result<Self, Error> {
        let progress = screen::progress("looking for Envoy");
        let binary = envoy::find(options.envoy_version.as_deref(), &checkout::envoy_store(), &progress)?;
        progress.finish_and_clear();
        let progress = screen::progress("building the module");
        let module = module::find(options.module.as_deref(), &progress)?;
        progress.finish_and_clear();

        let folder = run_folder()?;
        leftovers::add_folder(folder.clone());
        let v1 = Server::start("v1", V1_PORT).map_err(Error::io("cannot start the server v1"))?;
        let v2 = Server::start("v2", V2_PORT).map_err(Error::io("cannot start the server v2"))?;

        let path = folder.join("dubbo.plan.yaml");
        let mut watched = Config::parse(PLAN_FILE, PLAN)?;
        let shipped = PlanFile::plan(&mut watched).unwrap_or_default().to_owned();
        watched.move_file(MODULE_FILE, &module);
        let mut plan = PlanFile::new(&path, watched)?;
        plan.write(&shipped)?;

        let mut config = Config::parse("envoy-configs/dubbo.yaml", BOOTSTRAP)?;
        config.move_file(PLAN_FILE, &path);
        config.leave_taken_ports();
        config.move_ports(&BTreeMap::from([(V1_PORT, v1.address().port()), (V2_PORT, v2.address().port())]));
        let file = folder.join("dubbo.yaml");
        config.write(&file)?;

        let progress = screen::progress("starting Envoy");
        // One worker, so that all connections share what they can share, however few they are.
        let args = ["--concurrency", "1", "--log-level", "warning"].map(Into::into).into();
        let launch = Launch { binary, config: file, folder: folder.clone(), args };
        let envoy = match Envoy::start_killable(&launch, leftovers::add_envoy) {
            // Somebody may have taken a port between the look at it and Envoy's start.
            Err(envoy::Error::Exited { .. }) => {
                config.leave_all_ports();
                config.write(&launch.config)?;
                Envoy::start_killable(&launch, leftovers::add_envoy)
            }
            other => other,
        }?;
        progress.finish_and_clear();
        if envoy.admin().sum(REFUSALS)? > 0 {
            let why = envoy.complaint().unwrap_or_else(|| "its log does not say why".to_owned());
            return Err(Error::Refused { module, why });
        }
        let address = envoy.listener("demo")?;
        let client = Client::connect(address).map_err(Error::io("cannot connect to Envoy"))?;
        let native = envoy.listener("demo_dubbo_proxy")?;
        let plain = envoy.listener("demo_tcp_proxy")?;
        Ok(Self { address, native, plain, v1, v2, client, envoy, plan, generation: 0, folder })
    }

    /// Where the plan is.
    pub fn plan_path(&self) -> &Path {
        self.plan.path()
    }

    /// Puts a service with these `fields` (a JSON object; the protocol is added) in the place of the plan's, and waits
    /// until calls follow it.
    pub fn put_in_force(&mut self, fields: &str) -> Result<(), Error> {
        self.save(fields)?;
        let start = Instant::now();
        loop {
            let reply = self.client.call(Call::new(PROBE, "")).map_err(Error::io("a call failed"))?;
            if reply.attachments.get(PROBE) == Some(&self.generation.to_string()) {
                return Ok(());
            }
            if start.elapsed() > PLAN_LIMIT {
                let why = format!("the last answer was {:?} with {:?}", reply.answer, reply.attachments);
                let plan = self.plan.path().to_owned();
                return Err(Error::Plan { plan, seconds: PLAN_LIMIT.as_secs(), why });
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// As [`put_in_force`](Self::put_in_force), without waiting.
    pub fn save(&mut self, fields: &str) -> Result<(), Error> {
        self.generation += 1;
        let mut service: Value = serde_json::from_str(fields)
            .map_err(|error| Error::Io { what: "the demo's own plan is no JSON", source: error.into() })?;
        service["protocol"] = "dubbo".into();
        let probe = json!({
            "name": format!("plan-{}", self.generation),
            "match": [{"attributes": {"method": {"exact": PROBE}}}],
            "responseAttachments": {"set": {PROBE: self.generation.to_string()}},
        });
        let routes = service["routes"].take();
        service["routes"] =
            [probe].into_iter().chain(routes.as_array().cloned().unwrap_or_default()).collect();
        Ok(self.plan.write(&format!("{:#}\n", json!({"services": {"demo": service}})))?)
    }

    /// Saves the shipped plan again.
    pub fn restore_plan(&mut self) -> Result<(), Error> {
        let mut shipped = Config::parse(PLAN_FILE, PLAN)?;
        Ok(self.plan.write(PlanFile::plan(&mut shipped).unwrap_or_default())?)
    }

    /// Writes a request to a file, to be sent from a shell.
    pub fn write_example(&self) -> Result<PathBuf, Error> {
        let path = self.folder.join("sayHello.bin");
        let mut request = Vec::new();
        Call::new("sayHello", "world").write(1, &mut request);
        fs::write(&path, request).map_err(Error::io("cannot write an example"))?;
        Ok(path)
    }

    /// Lets the folder of the run stay after the demo.
    pub fn keep_folder(&self) -> &Path {
        leftovers::spare_folder();
        &self.folder
    }
}

/// A folder of this run's own.
fn run_folder() -> Result<PathBuf, Error> {
    let parent = checkout::target().join("meltemi");
    fs::create_dir_all(&parent).map_err(Error::io("cannot create the demo's folder"))?;
    let folder = tempfile::Builder::new().prefix("demo-").tempdir_in(parent);
    Ok(folder.map_err(Error::io("cannot create the demo's folder"))?.keep())
}
