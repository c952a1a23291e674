//! What is written for users holds: examples parse, fields and defaults are the parser's, links and files are there.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

#[path = "../node/mod.rs"]
mod node;

mod operations;
mod reference;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use doorbell_common::subdevice::Access;
use doorbell_device_plugin::config::{Config, Loaded, Pool};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files in a folder of the repository, with an ending, by their paths in it.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(ending)).map(|name| format!("{folder}/{name}")).collect()
}

/// What people read: the pages at the root, docs/ and the testbed's.
fn pages() -> Vec<String> {
    let mut pages = [files(".", ".md"), files("docs", ".md"), files("e2e/testbed", ".md")].concat();
    pages.sort();
    assert!(pages.len() >= 10, "{pages:?}");
    pages
}

/// Blocks of a page that are fenced as YAML.
fn yaml_blocks(page: &str) -> Vec<String> {
    let text = read(page);
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

fn documents(name: &str, yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Spans of code in Markdown.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// First cells of the table whose head begins so, without the marks of code.
fn first_cells(page: &str, head: &str) -> BTreeSet<String> {
    let text = read(page);
    let rows = text.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = rows.map_while(|line| line.strip_prefix("| "));
    let cells: BTreeSet<String> =
        rows.filter_map(|row| Some(row.split_once(" |")?.0.replace('`', ""))).collect();
    assert!(!cells.is_empty(), "{page} has no table `{head}`");
    cells
}

/// Lines outside of fenced blocks.
fn prose(page: &str) -> String {
    read(page).split("```").step_by(2).collect()
}

/// The examples of a config.
fn examples() -> Vec<String> {
    let mut blocks = yaml_blocks("docs/config.md");
    blocks.extend(yaml_blocks("docs/kata.md"));
    blocks.extend(yaml_blocks("docs/migration.md"));
    blocks.retain(|block| block.starts_with("apiVersion: doorbell.dev"));
    blocks
}

#[test]
fn every_example_of_a_config_is_one_and_each_mode_has_its_own() {
    let parse = |example: &String| Config::parse("an example", example).unwrap();
    let pools: Vec<Pool> = examples().iter().flat_map(|example| parse(example).pools).collect();
    for access in Access::ALL {
        assert!(pools.iter().any(|pool| pool.access == access), "{access}");
    }
}

#[test]
fn a_list_of_resources_is_the_config_below_it() {
    let text = read("docs/migration.md");
    let list = text.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let loaded = Loaded::parse("config.json", list).unwrap();
    assert_eq!(loaded.to_yaml("config.json").unwrap(), yaml_blocks("docs/migration.md")[0]);
}

#[test]
fn the_config_maps_of_examples_hold_configs() {
    let mut held = 0;
    for block in pages().iter().flat_map(|page| yaml_blocks(page)) {
        for document in
            documents("an example", &block).iter().filter(|document| document["kind"] == "ConfigMap")
        {
            let config = document["data"]["config.yaml"].as_str().unwrap();
            held += Config::parse("an example", config).unwrap().pools.len();
        }
    }
    assert!(held > 0);
}

#[test]
fn what_an_example_of_a_config_calls_a_default_is_one() {
    let mut of_all = 0;
    for example in examples() {
        let (defaults, rest): (Vec<&str>, Vec<&str>) =
            example.lines().partition(|line| line.ends_with("# default"));
        let parse = |text: &str| format!("{:?}", Config::parse("an example", text).unwrap());
        assert_eq!(parse(&rest.join("\n")), parse(&example));
        of_all += defaults.len();
    }
    assert_eq!(of_all, 8);
}

/// The parser names its fields where it meets a foreign one.
fn fields(with_foreign: &str) -> BTreeSet<String> {
    let error = Config::parse("pools.yaml", with_foreign).unwrap_err().to_string();
    let (_, fields) = error.split_once("unknown field `foreign`, expected one of ").unwrap();
    fields.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_table_of_fields_is_the_parsers() {
    let pool = |field: &str| fields(&format!("apiVersion: doorbell.dev/v1\npools:\n- {field}"));
    let mut known = fields("foreign: 1");
    known.extend(pool("foreign: 1"));
    known.extend(pool("select: {foreign: 1}"));
    known.extend(pool("prepare: {foreign: 1}"));
    known.remove("pools");

    let text = read("docs/config.md");
    let rows =
        text.lines().skip_while(|line| *line != "| field | meaning |").take_while(|line| !line.is_empty());
    let cells = rows.filter_map(|row| row.strip_prefix("| ")?.split(" | ").next());
    let documented: BTreeSet<String> =
        cells.flat_map(code).map(|field| field.rsplit('.').next().unwrap().to_owned()).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_object_for_kubernetes_says_what_it_is() {
    let examples = pages()
        .into_iter()
        .flat_map(|page| yaml_blocks(&page).into_iter().map(move |block| (page.clone(), block)));
    let manifests = files("manifests", ".yaml").into_iter().map(|file| (file.clone(), read(&file)));
    let mut objects = 0;
    for (name, yaml) in examples.chain(manifests) {
        for document in documents(&name, &yaml) {
            // A fragment shows a part of an object, and is of none by itself.
            let Some(version) = document["apiVersion"].as_str() else {
                assert!(document.is_object() && document.get("kind").is_none(), "{name}: {document}");
                continue;
            };
            if !version.starts_with("doorbell.dev/") {
                assert!(
                    document["kind"].is_string() && document["metadata"]["name"].is_string(),
                    "{name}: {document}"
                );
                objects += 1;
            }
        }
    }
    assert!(objects >= 4, "{objects} objects");
}

#[test]
fn the_table_of_values_is_the_charts() {
    let schema: Value = serde_json::from_str(&read("charts/doorbell/values.schema.json")).unwrap();
    let mut known = BTreeSet::new();
    for (name, value) in schema["properties"].as_object().unwrap() {
        match value["properties"].as_object() {
            Some(fields) => known.extend(fields.keys().map(|field| format!("{name}.{field}"))),
            None => drop(known.insert(name.clone())),
        }
    }
    assert_eq!(first_cells("docs/chart.md", "| value |"), known);
}

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut followed = 0;
    for page in pages() {
        // A form of a text, as code, may look like a link.
        let text: String = prose(&page).split('`').step_by(2).collect();
        let targets = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = root().join(&page).parent().unwrap().to_owned();
            let path = if file.is_empty() { root().join(&page) } else { folder.join(file) };
            assert!(path.exists(), "{page} links to {target}");
            if !heading.is_empty() {
                let text = fs::read_to_string(path).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|line| anchor(line.trim_start_matches('#')) == heading);
                assert!(found, "{page} links to {target}");
            }
            followed += 1;
        }
    }
    assert!(followed > 15, "only {followed} links");
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_source_file_that_is_named_is_there() {
    let mut files = Vec::new();
    for folder in ["src-common", "device-plugin", "cni", "e2e"] {
        sources(&root().join(folder), &mut files);
    }
    for page in pages() {
        for name in code(&prose(&page)).filter(|name| name.ends_with(".rs") && !name.contains('<')) {
            assert!(files.iter().any(|file| file.ends_with(name)), "{page} names {name}");
        }
    }
}
