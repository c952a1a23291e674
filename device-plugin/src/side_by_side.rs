//! Two maps, read side by side: to look each key of one up in the other costs ten times as much.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Each entry of `one`, with what `other` has under the same key.
pub(crate) fn side_by_side<'a, 'b, K: Ord, A, B>(
    one: &'a BTreeMap<K, A>,
    other: &'b BTreeMap<K, B>,
) -> impl Iterator<Item = (&'a K, &'a A, Option<&'b B>)> {
    let mut others = other.iter().peekable();
    one.iter().map(move |(key, a)| {
        loop {
            match others.peek().map(|(other, _)| (*other).cmp(key)) {
                Some(Ordering::Less) => drop(others.next()),
                Some(Ordering::Equal) => return (key, a, others.next().map(|(_, b)| b)),
                Some(Ordering::Greater) | None => return (key, a, None),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_of_the_one_is_there_once_and_of_the_other_where_it_is_the_same() {
        let one = BTreeMap::from([(1, 'a'), (3, 'c'), (4, 'd'), (9, 'z')]);
        let other = BTreeMap::from([(0, 'A'), (2, 'B'), (3, 'C'), (9, 'Z'), (10, 'Y')]);
        let both: Vec<_> = side_by_side(&one, &other).map(|(key, a, b)| (*key, *a, b.copied())).collect();
        assert_eq!(both, [(1, 'a', None), (3, 'c', Some('C')), (4, 'd', None), (9, 'z', Some('Z'))]);
    }
}
