//! What a pool selects: one set of selectors, or several of which one is enough.

use std::fmt;

use doorbell_common::kernel::sriov::Pf;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, de};

use super::{PfSelector, Select};

/// Sets of selectors, at least one; a sub-device is selected where one of them selects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<Select>);

/// As it is written: an object, or a list of objects.
pub(super) enum SelectionFields {
    One(Box<Select>),
    Several(Vec<Select>),
}

impl Selection {
    /// Of these sets; `None` without any.
    #[must_use]
    pub fn of(selects: Vec<Select>) -> Option<Self> {
        (!selects.is_empty()).then_some(Self(selects))
    }

    /// The sets, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Select> {
        self.0.iter()
    }

    /// Selectors that name a PF.
    pub fn pfs(&self) -> impl Iterator<Item = &PfSelector> {
        self.iter().flat_map(Select::pfs)
    }

    /// Whether VFs of `pf` can be selected.
    #[must_use]
    pub fn may_take_from(&self, pf: &Pf) -> bool {
        self.iter().any(|select| select.may_take_from(pf))
    }
}

impl SelectionFields {
    /// Each set with its path in the pool.
    pub(super) fn sets(&self) -> Vec<(String, &Select)> {
        match self {
            Self::One(select) => vec![("select".to_owned(), select)],
            Self::Several(selects) => {
                let set = |(index, select)| (format!("select[{index}]"), select);
                selects.iter().enumerate().map(set).collect()
            }
        }
    }

    pub(super) fn into_selection(self) -> Selection {
        match self {
            Self::One(select) => Selection(vec![*select]),
            Self::Several(selects) => Selection(selects),
        }
    }
}

impl<'de> Deserialize<'de> for SelectionFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;

        impl<'de> de::Visitor<'de> for OneOrSeveral {
            type Value = SelectionFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("selectors, or a list of such")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Set.visit_map(map).map(|select| SelectionFields::One(Box::new(select)))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut selects = Vec::new();
                while let Some(select) = seq.next_element_seed(Set)? {
                    selects.push(select);
                }
                Ok(SelectionFields::Several(selects))
            }
        }

        deserializer.deserialize_any(OneOrSeveral)
    }
}

/// A set of selectors, alone or in a list: its many fields are in the program once.
struct Set;

impl<'de> de::DeserializeSeed<'de> for Set {
    type Value = Select;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Select, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> de::Visitor<'de> for Set {
    type Value = Select;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("selectors")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Select, A::Error> {
        Select::deserialize(MapAccessDeserializer::new(map))
    }
}
