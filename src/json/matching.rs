//! Which elements of two arrays are the same thing: by a key that tells them apart, else by what they say.

use super::doc::{Doc, Kind, Node};
use std::collections::HashMap;

/// Cells of the largest table of common subsequences; stretches that need more are paired by position.
const CELLS_MAX: usize = 1 << 20;

/// Longer arrays are not matched: their elements are paired by position. Bounds memory.
const ITEMS_MAX: usize = 1 << 18;

/// Names that usually tell the elements of an array apart, the likeliest first.
const USUAL: [&[u8]; 10] =
    [b"id", b"key", b"uuid", b"_id", b"agent_id", b"task_id", b"guid", b"slug", b"path", b"name"];

/// Elements of the earlier array that live on in the later one: positions in both, ascending in the later.
pub fn match_items(a: &Doc<'_>, old: &[Node], b: &Doc<'_>, new: &[Node]) -> Vec<(usize, usize)> {
    if old.len().max(new.len()) > ITEMS_MAX {
        return (0..old.len().min(new.len())).map(|n| (n, n)).collect();
    }
    if let Some(pairs) = by_key(a, old, b, new) {
        return pairs;
    }
    let prints = |doc: &Doc<'_>, items: &[Node]| -> Vec<u64> {
        items.iter().map(|item| doc.fingerprint(*item)).collect()
    };
    let (x, y) = (prints(a, old), prints(b, new));
    let mut pairs = Vec::new();
    common(&x, &y, &mut pairs);
    fill_gaps(&pairs, x.len(), y.len())
}

/// By the first key that every element of both has, with a text or number of its own.
fn by_key(a: &Doc<'_>, old: &[Node], b: &Doc<'_>, new: &[Node]) -> Option<Vec<(usize, usize)>> {
    let first = *old.first()?;
    if new.is_empty() || a.kind(first) != Kind::Object {
        return None;
    }
    let mut names: Vec<Vec<u8>> = USUAL.iter().map(|name| name.to_vec()).collect();
    let like_id = |name: &[u8]| name.ends_with(b"_id") || name.ends_with(b"Id") || name.ends_with(b"ID");
    names.extend(a.members(first).into_iter().map(|(k, _)| k.into_owned()).filter(|k| like_id(k)));
    names.into_iter().find_map(|name| {
        let theirs = identities(a, old, &name)?;
        let ours = identities(b, new, &name)?;
        let places: HashMap<&[u8], usize> = theirs.iter().enumerate().map(|(i, id)| (&id[..], i)).collect();
        let pairs = ours.iter().enumerate();
        Some(pairs.filter_map(|(j, id)| Some((*places.get(&id[..])?, j))).collect())
    })
}

/// What each element says under `name`; `None` unless all do, each something else.
fn identities(doc: &Doc<'_>, items: &[Node], name: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut all = Vec::with_capacity(items.len());
    let mut seen = std::collections::HashSet::with_capacity(items.len());
    for item in items {
        let value = doc.member(*item, name)?;
        let said = match doc.kind(value) {
            Kind::Text => [b"\"", &*doc.string(value)].concat(),
            Kind::Number => doc.raw(value).to_vec(),
            _ => return None,
        };
        if !seen.insert(said.clone()) {
            return None;
        }
        all.push(said);
    }
    Some(all)
}

/// A common subsequence: equal ends, then what is unique on both sides as anchors, then tables in between.
fn common(x: &[u64], y: &[u64], pairs: &mut Vec<(usize, usize)>) {
    let head = x.iter().zip(y).take_while(|(p, q)| p == q).count();
    pairs.extend((0..head).map(|n| (n, n)));
    let (x_rest, y_rest) = (&x[head..], &y[head..]);
    let tail = x_rest.iter().rev().zip(y_rest.iter().rev()).take_while(|(p, q)| p == q).count();
    let (x_mid, y_mid) = (&x_rest[..x_rest.len() - tail], &y_rest[..y_rest.len() - tail]);
    let (mut from_x, mut from_y) = (0, 0);
    let mut anchors = anchors(x_mid, y_mid);
    anchors.push((x_mid.len(), y_mid.len()));
    for (i, j) in anchors {
        let between = table(&x_mid[from_x..i], &y_mid[from_y..j]);
        pairs.extend(between.into_iter().map(|(p, q)| (head + from_x + p, head + from_y + q)));
        if i < x_mid.len() {
            pairs.push((head + i, head + j));
        }
        (from_x, from_y) = (i + 1, j + 1);
    }
    pairs.extend((0..tail).map(|n| (x.len() - tail + n, y.len() - tail + n)));
}

/// What stands exactly once on either side, in an order that both keep.
fn anchors(x: &[u64], y: &[u64]) -> Vec<(usize, usize)> {
    let mut places: HashMap<u64, [(u32, usize); 2]> = HashMap::new();
    for (side, all) in [x, y].into_iter().enumerate() {
        for (n, print) in all.iter().enumerate() {
            let place = &mut places.entry(*print).or_default()[side];
            *place = (place.0 + 1, n);
        }
    }
    let mut both: Vec<(usize, usize)> =
        places.into_values().filter(|[p, q]| p.0 == 1 && q.0 == 1).map(|[p, q]| (p.1, q.1)).collect();
    both.sort_unstable();
    let order: Vec<usize> = both.iter().map(|(_, j)| *j).collect();
    ascending(&order).into_iter().map(|n| both[n]).collect()
}

/// Places of a longest ascending run within `numbers`, which are all different.
pub fn ascending(numbers: &[usize]) -> Vec<usize> {
    if numbers.windows(2).all(|pair| pair[0] < pair[1]) {
        return (0..numbers.len()).collect();
    }
    // For each length the place of the smallest number that ends a run so long.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(numbers.len());
    for (n, number) in numbers.iter().enumerate() {
        let at = ends.partition_point(|end| numbers[*end] < *number);
        before.push(at.checked_sub(1).map(|last| ends[last]));
        match ends.get_mut(at) {
            Some(end) => *end = n,
            None => ends.push(n),
        }
    }
    let mut run = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(n) = at {
        run.push(n);
        at = before[n];
    }
    run.reverse();
    run
}

/// A longest common subsequence by a table; nothing where that would be too large.
fn table(x: &[u64], y: &[u64]) -> Vec<(usize, usize)> {
    let width = y.len() + 1;
    if x.is_empty() || y.is_empty() || (x.len() + 1).saturating_mul(width) > CELLS_MAX {
        return Vec::new();
    }
    let mut best = vec![0u32; (x.len() + 1) * width];
    for i in (0..x.len()).rev() {
        for j in (0..y.len()).rev() {
            best[i * width + j] = if x[i] == y[j] {
                best[(i + 1) * width + j + 1] + 1
            } else {
                best[(i + 1) * width + j].max(best[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < x.len() && j < y.len() {
        if x[i] == y[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if best[(i + 1) * width + j] >= best[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// Pairs what stands between matches by position: a thing that was changed, not one that went and one that came.
fn fill_gaps(pairs: &[(usize, usize)], old: usize, new: usize) -> Vec<(usize, usize)> {
    let mut filled = Vec::with_capacity(pairs.len());
    let (mut i, mut j) = (0, 0);
    for (p, q) in pairs.iter().copied().chain([(old, new)]) {
        filled.extend((i..p).zip(j..q));
        if p < old {
            filled.push((p, q));
        }
        (i, j) = (p + 1, q + 1);
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_subsequences_are_the_longest() {
        assert_eq!(ascending(&[2, 0, 1, 5, 3, 4]), [1, 2, 4, 5]);
        assert_eq!(ascending(&[]), [0usize; 0]);
        let pairs = |x: &[u64], y: &[u64]| {
            let mut pairs = Vec::new();
            common(x, y, &mut pairs);
            pairs
        };
        assert_eq!(pairs(&[1, 2, 3], &[0, 1, 2, 3]), [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(pairs(&[7, 7, 1, 7], &[7, 1, 7, 7]), [(0, 0), (2, 1), (3, 3)]);
        assert_eq!(fill_gaps(&[(2, 3)], 4, 4), [(0, 0), (1, 1), (2, 3)]);
        let long: Vec<u64> = (0..20_000).collect();
        let shifted: Vec<u64> = (7..20_007).collect();
        assert_eq!(pairs(&long, &shifted).len(), 20_000 - 7);
    }
}
