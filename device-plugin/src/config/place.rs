//! Where a field of a document is. It is looked up when something is wrong with it, and not kept before: types that carried
//! their lines would have the parser's code once more each.

use super::resource_list::{Node, Tree};

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
        Tree::Map(fields) => fields.iter().find_map(|(key, child)| {
            let dot = if path.is_empty() { "" } else { "." };
            find(format!("{path}{dot}{}", key.value), key.referenced.line(), child)
        }),
        Tree::List(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, child)| find(format!("{path}[{index}]"), child.referenced.line(), child)),
        Tree::Null | Tree::Bool(_) | Tree::Text(_) => None,
    }
}
