//! The chart's Grafana dashboard: it asks for metrics that there are, and its panels lie beside each other.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;

use e2e_install::helm;
use e2e_install::project;
use serde_json::{Value, json};

fn dashboard() -> Value {
    serde_json::from_slice(&fs::read(project("charts/doorbell/files/dashboard.json")).unwrap()).unwrap()
}

/// Those of the page, which a test of the plugin's holds against the plugin.
fn metrics() -> BTreeSet<String> {
    let page = fs::read_to_string(project("docs/operations.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `doorbell_")?.split_once("` |"));
    rows.map(|(name, _)| format!("doorbell_{name}")).collect()
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

#[test]
fn every_metric_is_shown_and_there_is_no_other() {
    let dashboard = dashboard();
    let targets = panels(&dashboard).iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    let words = expressions
        .iter()
        .flat_map(|text| text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_'));
    let shown: BTreeSet<String> = words
        .filter(|word| word.starts_with("doorbell_"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect();
    assert_eq!(shown, metrics());
}

#[test]
fn whose_data_it_shows_is_chosen_in_grafana() {
    let dashboard = dashboard();
    let chosen = json!({ "type": "prometheus", "uid": "${datasource}" });
    for panel in panels(&dashboard) {
        assert_eq!(panel["datasource"], chosen, "{}", panel["title"]);
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"], chosen, "{}", panel["title"]);
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<&str> = variables.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "node", "pool"]);
}

#[test]
fn panels_lie_beside_each_other() {
    let dashboard = dashboard();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(&dashboard) {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        let [left, top, width, height] =
            ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(left + width <= 24, "{}", panel["title"]);
        for column in left..left + width {
            for row in top..top + height {
                assert!(taken.insert((column, row)), "{} lies on another", panel["title"]);
            }
        }
    }
}

#[test]
fn the_chart_brings_it_as_it_is() {
    let answer = helm::render(&[json!({ "dashboard": { "enabled": true } })]).unwrap().remove(0).unwrap();
    let map: Value = serde_saphyr::from_str(&answer.files["dashboard.yaml"]).unwrap();
    let brought: Value = serde_json::from_str(map["data"]["doorbell.json"].as_str().unwrap()).unwrap();
    assert_eq!(brought, dashboard());
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
}
