//! Where a field of a document is, and which one is at a place. It is looked up when something is wrong with it, and not
//! kept before: types that carried their lines, or a parser that tracked its way, would have its code once more each.

use serde_saphyr::{DuplicateKeyPolicy, Error, Location, options};

use super::resource_list::{Node, Tree};

/// Fields that a pool must have; the parser misses one at the pool's last field.
const OF_A_POOL: [&str; 3] = ["name", "access", "select"];

/// The line and the path (`pools[0].select.drivers`) of what the parser's error is about; no path where that is the whole
/// document, or no YAML.
pub(super) fn of(text: &str, error: &Error) -> (u64, String) {
    let Some(location) = error.location() else { return (1, String::new()) };
    let all = options! { duplicate_keys: DuplicateKeyPolicy::PassThrough };
    let Ok(root) = serde_saphyr::from_str_with_options::<Node>(text, all) else {
        return (location.line(), String::new());
    };
    let message = error.to_string();
    let path = Sought { at: place(&location), message: &message }.in_(&root, "");
    let Some(missing) = message.split_once("missing field `").and_then(|(_, rest)| rest.split('`').next())
    else {
        return (location.line(), path);
    };
    let has_it = path.find(']').filter(|_| OF_A_POOL.contains(&missing));
    let path = has_it.and_then(|end| path.get(..=end)).unwrap_or_default();
    (below(&root, "", path).unwrap_or(1), path.to_owned())
}

/// An error's place, and what it says.
struct Sought<'a> {
    at: (u64, u64),
    message: &'a str,
}

impl Sought<'_> {
    /// The path of the last that begins there or before. What begins where its first key does is meant itself, unless
    /// the error names the key.
    fn in_(&self, node: &Node, path: &str) -> String {
        let begins = |at: (u64, u64), named: bool| {
            at < self.at || at == self.at && (named || at != place(&node.referenced))
        };
        let last = match &node.value {
            Tree::Map(fields) => {
                let named = |key: &str| self.message.contains(&format!("`{key}`"));
                let last =
                    fields.iter().rev().find(|(key, _)| begins(place(&key.referenced), named(&key.value)));
                last.map(|(key, child)| (step(path, &key.value), child))
            }
            Tree::List(items) => {
                let mut items = items.iter().enumerate().rev();
                let last = items.find(|(_, item)| begins(place(&item.referenced), true));
                last.map(|(index, child)| (format!("{path}[{index}]"), child))
            }
            Tree::Null | Tree::Bool(_) | Tree::Text(_) => None,
        };
        last.map_or_else(|| path.to_owned(), |(path, child)| self.in_(child, &path))
    }
}

/// By line and column.
fn place(location: &Location) -> (u64, u64) {
    (location.line(), location.column())
}

fn step(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The line, from 1, of the field with that path (`pools[0].select.drivers`); of what it would be in, where it is not there.
pub(super) fn line(text: &str, field: &str) -> u64 {
    // It was read before, or this would not be asked.
    serde_saphyr::from_str::<Node>(text).map_or(1, |root| below(&root, "", field).unwrap_or(1))
}

/// The line of the longest part of the path that is below a node, itself at `path`.
fn below(node: &Node, path: &str, field: &str) -> Option<u64> {
    let find = |path: String, line: u64, child: &Node| {
        let rest = field.strip_prefix(&path)?;
        let is_on_the_way = rest.is_empty() || rest.starts_with(['.', '[']);
        is_on_the_way.then(|| below(child, &path, field).unwrap_or(line))
    };
    match &node.value {
        Tree::Map(fields) => {
            fields.iter().find_map(|(key, child)| find(step(path, &key.value), key.referenced.line(), child))
        }
        Tree::List(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, child)| find(format!("{path}[{index}]"), child.referenced.line(), child)),
        Tree::Null | Tree::Bool(_) | Tree::Text(_) => None,
    }
}
