//! The complete plans in the documentation are plans.
use meltemi_codecs::Codecs;
use meltemi_plan::Plan;

const REFERENCE: &str = include_str!("../../../docs/plan.md");

#[test]
fn samples_are_plans_without_warnings() {
    let samples: Vec<_> =
        REFERENCE.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(samples.len() >= 3);
    for sample in samples {
        let plan = Plan::parse(sample.as_bytes(), &Codecs::all())
            .unwrap_or_else(|error| panic!("{error}\n{sample}"));
        assert!(plan.services().count() > 0, "{sample}");
        assert_eq!(plan.warnings(), [], "{sample}");
    }
}
