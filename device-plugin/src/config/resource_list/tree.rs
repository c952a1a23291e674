//! A document as a tree that keeps lines, and a reader of it by field: what is wrong is named, and reading goes on.
//!
//! sriov-network-device-plugin is written in Go: its JSON decoder takes keys in any case, null for nothing, and passes
//! over keys that it does not know.

use std::cell::RefCell;
use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

use super::Remark;

/// A value with the line that it is on.
pub(in super::super) type Node = Spanned<Tree>;

pub(in super::super) enum Tree {
    Null,
    Bool(bool),
    /// Texts, and numbers as they are written.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Spanned<String>, Node)>),
}

impl Tree {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> de::Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(node) = seq.next_element()? {
                    list.push(node);
                }
                Ok(Tree::List(list))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Tree::Map(fields))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// What was read and can't be taken over, and what can but for something that is to be known.
#[derive(Default)]
pub(super) struct Findings {
    refused: RefCell<Vec<Remark>>,
    noted: RefCell<Vec<Remark>>,
}

impl Findings {
    pub(super) fn into_parts(self) -> (Vec<Remark>, Vec<Remark>) {
        (self.refused.into_inner(), self.noted.into_inner())
    }
}

/// A value at its place.
#[derive(Clone)]
pub(super) struct At<'a> {
    findings: &'a Findings,
    path: String,
    line: u64,
    tree: &'a Tree,
}

/// Fields of an object, each to be asked for once; the rest is noted.
pub(super) struct Fields<'a>(Vec<(&'a str, At<'a>)>);

impl<'a> At<'a> {
    pub(super) fn root(findings: &'a Findings, node: &'a Node) -> Self {
        Self { findings, path: String::new(), line: node.referenced.line(), tree: &node.value }
    }

    /// It can't be taken over.
    pub(super) fn refuse(&self, message: impl Into<String>) {
        self.findings.refused.borrow_mut().push(self.remark(&message.into()));
    }

    /// It is taken over, or has nothing to be taken over, and that is to be known.
    pub(super) fn note(&self, message: impl Into<String>) {
        self.findings.noted.borrow_mut().push(self.remark(&message.into()));
    }

    /// How much has been refused so far, of the whole list.
    pub(super) fn refusals(&self) -> usize {
        self.findings.refused.borrow().len()
    }

    fn remark(&self, message: &str) -> Remark {
        // Names and values are whatever somebody wrote, and a remark is one line.
        let one_line = |text: &str| text.replace(|letter: char| letter.is_control(), " ");
        Remark { line: self.line, field: one_line(&self.path), message: one_line(message) }
    }

    fn wrong(&self, expected: &str) {
        self.refuse(format!("{} where {expected} belongs", self.tree.kind()));
    }

    fn below(&self, step: &str, node: &'a Node) -> Self {
        let path = format!("{}{step}", self.path).trim_start_matches('.').to_owned();
        Self { findings: self.findings, path, line: node.referenced.line(), tree: &node.value }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.tree, Tree::Map(_))
    }

    /// Keys and values of an object.
    pub(super) fn entries(&self) -> Vec<(&'a str, Self)> {
        match self.tree {
            Tree::Map(fields) => {
                let entry = |(key, node): &'a (Spanned<String>, Node)| {
                    (key.value.as_str(), self.below(&format!(".{}", key.value), node))
                };
                fields.iter().map(entry).collect()
            }
            _ => {
                self.wrong("an object");
                Vec::new()
            }
        }
    }

    pub(super) fn fields(&self) -> Fields<'a> {
        let mut left: Vec<(&str, At<'a>)> = Vec::new();
        for (key, field) in self.entries() {
            if left.iter().any(|(other, _)| other.eq_ignore_ascii_case(key)) {
                field.refuse("it is there already");
            } else {
                left.push((key, field));
            }
        }
        Fields(left)
    }

    pub(super) fn list(&self) -> Vec<Self> {
        match self.tree {
            Tree::List(nodes) => {
                let nodes = nodes.iter().enumerate();
                nodes.map(|(index, node)| self.below(&format!("[{index}]"), node)).collect()
            }
            _ => {
                self.wrong("a list");
                Vec::new()
            }
        }
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match self.tree {
            Tree::Text(text) => Some(text),
            _ => {
                self.wrong("a text");
                None
            }
        }
    }

    pub(super) fn bool(&self) -> Option<bool> {
        match self.tree {
            Tree::Bool(value) => Some(*value),
            _ => {
                self.wrong("true or false");
                None
            }
        }
    }

    /// The text, as what it has to be.
    pub(super) fn parsed<T: std::str::FromStr<Err: fmt::Display>>(&self, text: &str) -> Option<T> {
        text.parse().map_err(|error: T::Err| self.refuse(error.to_string())).ok()
    }
}

impl<'a> Fields<'a> {
    /// The field of that name, unless it is null.
    pub(super) fn take(&mut self, name: &str) -> Option<At<'a>> {
        let index = self.0.iter().position(|(key, _)| key.eq_ignore_ascii_case(name))?;
        let (_, field) = self.0.swap_remove(index);
        (!matches!(field.tree, Tree::Null)).then_some(field)
    }

    /// Notes what nobody has asked for.
    pub(super) fn ignore_rest(self, why: &str) {
        for (_, field) in self.0 {
            field.note(why);
        }
    }
}
