//! The environment in which the plugin is measured is the one that the chart gives it.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use e2e_bench::process::ENVIRONMENT;

#[test]
fn the_plugin_is_measured_as_the_chart_runs_it() {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/doorbell/templates/daemonset.yaml");
    let chart = std::fs::read_to_string(chart).unwrap();
    for (name, value) in ENVIRONMENT {
        assert!(chart.contains(&format!("- {{ name: {name}, value: \"{value}\" }}")), "{name}");
    }
    assert_eq!(chart.matches("name: MALLOC_").count(), ENVIRONMENT.len());
}
