//! Meltemi comes to a mesh that is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use meltemi_mesh_tests::Workload;
use meltemi_tests::{Client, eventually};
use nix::sys::signal::Signal;

use crate::stage::{self, DEMO, SHOP, Stage};

/// Sidecars have to fetch and compile the module before anything can go through it. Until then connections are carried as
/// they were.
#[test]
fn calls_are_answered_while_the_module_is_on_its_way() {
    let mut stage = stage::take();
    stage.end_controller(Signal::SIGTERM);
    let all = ["delete", "envoyfilters,wasmplugins", "--all-namespaces", "--selector", MANAGED];
    stage.mesh.cluster().kubectl(&all, "");
    // Its agent has no module in its cache, and its Envoy runs none.
    stage.mesh.start_pods([Workload::new(SHOP, "arriving")]);
    let calls = Calls::start(&stage);
    stage.mesh.registry().pause();
    let module = stage.module.clone();
    stage.install_controller(&module, &[]);
    stage.start_controller();
    eventually("the sockets are there", || {
        stage.generated().keys().any(|name| name.contains("sockets")).then_some(())
    });
    calls.wait_for(200);
    stage.mesh.registry().resume();
    stage.pod("arriving").wait_for_plan(|_| true);
    stage.pod("arriving").wait_for_tunnels();
    calls.wait_for(50);
    calls.end();
    stage.mesh.kill_pod(SHOP, "arriving");
    stage.balanced(DEMO.address);
    stage.end_controller(Signal::SIGTERM);
}

const MANAGED: &str = "app.kubernetes.io/managed-by=meltemi";

/// Calls of the pod `arriving` one after the other, each on a connection of its own.
struct Calls {
    answered: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Calls {
    fn start(stage: &Stage) -> Self {
        let (answered, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, end) = (answered.clone(), is_over.clone());
        let call = move || {
            while !end.load(Ordering::Relaxed) {
                Client::connect(DEMO.address.parse().unwrap()).ask("sayHello", "x");
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let thread = stage.pod("arriving").enter(|| thread::spawn(call));
        Self { answered, is_over, thread }
    }

    /// Waits for so many answers more, or a failure.
    fn wait_for(&self, more: usize) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        eventually("calls are answered", || {
            let is_there = self.answered.load(Ordering::Relaxed) >= target;
            (is_there || self.thread.is_finished()).then_some(())
        });
    }

    /// Makes no more.
    ///
    /// # Panics
    ///
    /// When one was not answered.
    fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("every call is answered");
    }
}
