//! docs/reference.md is made of the config's schema, which is made of its types.

use std::fmt::Write;
use std::fs;

use doorbell_device_plugin::config;
use serde_json::Value;

use crate::root;

const FILE: &str = "docs/reference.md";
const HEAD: &str = "\
# Reference of the config file

Made of the parser's types (`UPDATE=1 cargo test -p doorbell-device-plugin --test docs`), as is the schema that `doorbell-device-plugin schema` prints. What fields are for, how they go together, and examples: [the config file](config.md).
";

/// An object of the config, by its path.
struct Object<'a> {
    path: String,
    schema: &'a Value,
}

#[test]
fn the_reference_is_that_of_the_types() {
    let (file, made) = (root().join(FILE), page(&config::schema()));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &made).unwrap();
    }
    assert!(fs::read_to_string(&file).is_ok_and(|text| text == made), "UPDATE=1 writes {FILE} anew");
}

/// A table an object, outer ones first.
fn page(schema: &Value) -> String {
    let mut page = HEAD.to_owned();
    let mut objects = vec![Object { path: String::new(), schema }];
    while !objects.is_empty() {
        let Object { path, schema: object } = objects.remove(0);
        let heading = if path.is_empty() { "The file".to_owned() } else { format!("`{path}`") };
        page += &format!("\n## {heading}\n| field | takes | default | what |\n|---|---|---|---|\n");
        for (name, field) in object["properties"].as_object().unwrap() {
            let required =
                object["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
            let default = if required { "required".to_owned() } else { default(field) };
            let about = about(field, schema);
            assert!(!about.is_empty(), "{path}.{name} has no description");
            writeln!(page, "| `{name}` | {} | {default} | {about} |", takes(field, schema)).unwrap();
            let inner = one(field, schema);
            if inner["properties"].is_object() {
                let dot = if path.is_empty() { "" } else { "." };
                let list = if field["type"] == "array" { "[]" } else { "" };
                objects.push(Object { path: format!("{path}{dot}{name}{list}"), schema: inner });
            }
        }
    }
    page
}

/// What a field refers to.
fn resolved<'a>(field: &'a Value, schema: &'a Value) -> &'a Value {
    let name = field["$ref"].as_str().or_else(|| field["anyOf"][0]["$ref"].as_str());
    name.map_or(field, |name| schema.pointer(name.trim_start_matches('#')).unwrap())
}

/// One of it, where there may be several.
fn one<'a>(field: &'a Value, schema: &'a Value) -> &'a Value {
    let field = resolved(field, schema);
    let inner = ["items", "else"].iter().map(|key| &field[key]).find(|inner| inner.is_object());
    inner.map_or(field, |inner| resolved(inner, schema))
}

fn takes(field: &Value, schema: &Value) -> String {
    let field = resolved(field, schema);
    let quoted =
        |values: Vec<String>| values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    if let Some(values) = field["oneOf"].as_array() {
        return quoted(values.iter().map(|value| text(&value["const"])).collect());
    }
    if let Some(values) = field["enum"].as_array() {
        let mut values: Vec<String> = values.iter().map(text).collect();
        let all = values.clone();
        let mut index = 0;
        // A switch may be written as a text, too.
        values.retain(|value| {
            index += 1;
            !all[..index - 1].contains(value)
        });
        return quoted(values);
    }
    if field["else"].is_object() {
        return "an object, or a list of such".to_owned();
    }
    let kinds: Vec<String> = match &field["type"] {
        Value::Array(kinds) => kinds.iter().map(text).filter(|kind| kind != "null").collect(),
        kind => vec![text(kind)],
    };
    let bounds = [(" from ", "minimum"), (" to ", "maximum")].map(|(word, key)| match &field[key] {
        Value::Null => String::new(),
        bound => format!("{word}{bound}"),
    });
    let form =
        field["pattern"].as_str().map(|form| format!(" `{}`", form.replace('|', "\\|"))).unwrap_or_default();
    match kinds.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["boolean"] => "`true`, `false`".to_owned(),
        ["integer"] => format!("a number{}", bounds.concat()),
        ["string"] => format!("a text{form}"),
        ["string", "integer"] => format!("a text or number{form}"),
        ["array"] if one(field, schema)["properties"].is_object() => "a list of objects".to_owned(),
        ["array"] => format!("a list of: {}", takes(&field["items"], schema)),
        ["object"] => "an object".to_owned(),
        ref other => panic!("{other:?} in {field}"),
    }
}

fn default(field: &Value) -> String {
    match &field["default"] {
        Value::Null => String::new(),
        // What is empty is as if it were not given.
        Value::Object(fields) if fields.is_empty() => String::new(),
        value => format!("`{}`", text(value)),
    }
}

/// What it is for, and what each of its values means.
fn about(field: &Value, schema: &Value) -> String {
    let target = resolved(field, schema);
    let own = field["description"].as_str().or_else(|| target["description"].as_str());
    let mut about = own.unwrap_or_default().to_owned();
    for value in one(field, schema)["oneOf"].as_array().into_iter().flatten() {
        if let Some(meaning) = value["description"].as_str() {
            write!(about, " `{}`: {}", text(&value["const"]), meaning.trim_end_matches('.').to_owned() + ".")
                .unwrap();
        }
    }
    about.replace('\n', " ").replace('|', "\\|")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
