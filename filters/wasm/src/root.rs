use std::cell::RefCell;
use std::rc::Rc;

use meltemi_codecs::Codec;
use meltemi_proxy::plan::Plan;
use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::ContextType;
use rustc_hash::FxHashMap;

use crate::host;
use crate::stream::Stream;

/// The plan of one plugin, as all its contexts in this VM see it.
///
/// An update of the configuration makes a new root context in the same VM, while the connections of the old one live
/// on: they read the new plan from here.
#[derive(Debug, Default)]
pub(crate) struct PlanCell(RefCell<Option<Rc<Plan>>>);

impl PlanCell {
    /// The plan that is in force.
    pub(crate) fn current(&self) -> Option<Rc<Plan>> {
        self.0.borrow().clone()
    }
}

thread_local! {
    static PLANS: RefCell<FxHashMap<Vec<u8>, Rc<PlanCell>>> = RefCell::default();
}

/// One configuration of the plugin.
pub(crate) struct Root {
    codecs: &'static [&'static dyn Codec],
    plan: Rc<PlanCell>,
}

impl Root {
    pub(crate) fn new(codecs: &'static [&'static dyn Codec]) -> Self {
        let name = host::property("plugin_name").unwrap_or_default();
        let plan = PLANS.with_borrow_mut(|plans| plans.entry(name).or_default().clone());
        Self { codecs, plan }
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let json = if size == 0 { Vec::new() } else { host::buffer(host::Buffer::Configuration, size) };
        match Plan::parse(&json, self.codecs) {
            Ok(plan) => {
                log::info!("meltemi: plan of {} services in force", plan.services().count());
                *self.plan.0.borrow_mut() = Some(Rc::new(plan));
                true
            }
            Err(error) => {
                log::error!("meltemi: plan refused: {error}");
                false
            }
        }
    }

    fn create_stream_context(&self, _: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Stream::new(self.plan.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }
}
