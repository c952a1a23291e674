//! Lists whose elements are texts, read by one visitor whatever their type: of each visitor that a parser meets, its code is
//! in the program once more.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, SeqAccess, Visitor, value};
use serde::{Deserialize, Deserializer};

/// For `deserialize_with` of a field that is such a list.
pub(super) fn texts<'de, D, C>(deserializer: D) -> Result<C, D::Error>
where
    D: Deserializer<'de>,
    C: Default + IntoIterator + Extend<C::Item>,
    C::Item: DeserializeOwned,
{
    let mut list = C::default();
    let mut take = |text: &str| {
        list.extend([C::Item::deserialize(text.into_deserializer())?]);
        Ok(())
    };
    deserializer.deserialize_seq(Texts(&mut take))?;
    Ok(list)
}

type Take<'a> = &'a mut dyn FnMut(&str) -> Result<(), value::Error>;

struct Texts<'a>(Take<'a>);

/// An error in one of them is said where it stands.
struct Text<'a>(Take<'a>);

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Text(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_string(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        (self.0)(text).map_err(E::custom)
    }
}
