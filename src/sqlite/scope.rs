//! Which rows can differ between two versions of a database, told by their pages: leaves that both versions have, equal byte
//! for byte, need not be read.
//!
//! What must hold: a row that differs stands, in the version that has it, in a leaf that the other version's tree of the same
//! table does not have, or not with these bytes, or its content goes on in a page that is not the same. Such a chain of pages
//! begins in a leaf, so its first page that differs belongs to no tree in either version. Only if there are such pages, leaves
//! that are the same are searched for rows that go on in them.

use super::image::Bytes;
use super::rows::Scope;
use super::schema::{Object, Table};
use super::tree::{Leaf, PageSet, Pages, Tree};
use crate::error::Result;
use std::cell::RefCell;
use std::collections::HashMap;

/// Two versions, page by page.
pub struct Scopes {
    state: RefCell<State>,
}

struct State {
    before: Pages,
    after: Pages,
    before_trees: HashMap<u32, Tree>,
    after_trees: HashMap<u32, Tree>,
    /// Pages that may differ. Those that turn out to be the same are taken out as they are looked at.
    differ: PageSet,
    looked: PageSet,
    /// Pages that differ and belong to no tree: rows go on in them, perhaps.
    loose: PageSet,
}

impl Scopes {
    /// `differ` has every page that may differ, counted from 1. `None` when the pages cannot be relied on: another page size,
    /// or something that is no tree.
    pub fn new(
        before: Box<dyn Bytes>,
        after: Box<dyn Bytes>,
        objects: (&[Object], &[Object]),
        differ: &dyn Fn(u32, u32) -> Result<PageSet>,
    ) -> Result<Option<Self>> {
        let (Some(mut before), Some(mut after)) = (Pages::new(before)?, Pages::new(after)?) else {
            return Ok(None);
        };
        if (before.size, before.usable) != (after.size, after.usable) {
            return Ok(None);
        }
        let differ = differ(before.size, before.count.max(after.count))?;
        let (Some((before_trees, before_known)), Some((after_trees, after_known))) =
            (trees(&mut before, objects.0)?, trees(&mut after, objects.1)?)
        else {
            return Ok(None);
        };
        let (looked, loose) = (PageSet::new(before.count.max(after.count)), PageSet::new(before.count));
        let mut state = State { before, after, before_trees, after_trees, differ, looked, loose };
        let unknown = |page: &u32| !before_known.has(*page) && !after_known.has(*page);
        let candidates: Vec<u32> = state.differ.iter().filter(unknown).collect();
        for page in candidates {
            let inside = page >= 1 && page <= state.before.count && page <= state.after.count;
            if inside && !state.before.is_set_aside(page) && state.differs(page)? {
                state.loose.insert(page);
            }
        }
        Ok(Some(Scopes { state: RefCell::new(state) }))
    }

    /// Which rows of a table can differ.
    pub fn of(&self, before: &Table, after: &Table) -> Result<Scope> {
        // The same bytes must mean the same values.
        let same = |(a, b): (&super::schema::Column, &super::schema::Column)| {
            (&a.name, &a.declared, a.key) == (&b.name, &b.declared, b.key)
        };
        let alike = before.columns.len() <= after.columns.len()
            && before.columns.iter().zip(&after.columns).all(same)
            && (before.sql == after.sql || !has_generated(before) && !has_generated(after))
            && before.without_rowid == after.without_rowid
            && before.alias == after.alias;
        if !alike {
            return Ok(Scope::All);
        }
        let mut state = self.state.borrow_mut();
        let trees = (state.before_trees.remove(&before.root), state.after_trees.remove(&after.root));
        let (Some(old), Some(new)) = trees else { return Ok(Scope::All) };
        if before.without_rowid {
            return state.whole(&old, &new);
        }
        state.numbers(&old, &new)
    }
}

/// Columns that are computed may stand between those that are stored.
fn has_generated(table: &Table) -> bool {
    table.sql.as_ref().is_none_or(|sql| sql.to_ascii_uppercase().contains(" AS"))
}

type Known = (HashMap<u32, Tree>, PageSet);

/// All trees of a version, and all pages that are known to be part of one or free.
fn trees(pages: &mut Pages, objects: &[Object]) -> Result<Option<Known>> {
    let mut known = PageSet::new(pages.count);
    let mut all = HashMap::new();
    for root in objects.iter().map(|object| object.root).filter(|root| *root > 0).chain([1]) {
        let Some(tree) = pages.tree(root)? else { return Ok(None) };
        let parts = tree.inner.iter().copied().chain(tree.leaves.iter().map(|leaf| leaf.page));
        for page in parts {
            // A page of two trees is damage.
            if !known.insert(page) {
                return Ok(None);
            }
        }
        all.insert(root, tree);
    }
    let Some(free) = pages.free()? else { return Ok(None) };
    for page in free {
        known.insert(page);
    }
    Ok(Some((all, known)))
}

impl State {
    /// Whether a page of both versions differs, by its bytes.
    fn differs(&mut self, page: u32) -> Result<bool> {
        if self.differ.has(page) && self.looked.insert(page) {
            let old = self.before.read(page)?;
            if old == self.after.read(page)? {
                self.differ.remove(page);
            }
        }
        Ok(self.differ.has(page))
    }

    /// A table without row numbers is read altogether if any of its pages differs.
    fn whole(&mut self, old: &Tree, new: &Tree) -> Result<Scope> {
        let pages = |tree: &Tree| {
            let mut all: Vec<u32> = tree.inner.clone();
            all.extend(tree.leaves.iter().map(|leaf| leaf.page));
            all
        };
        let (old, new) = (pages(old), pages(new));
        if old != new || !self.loose.is_empty() {
            return Ok(Scope::All);
        }
        for page in new {
            if self.differs(page)? {
                return Ok(Scope::All);
            }
        }
        Ok(Scope::Nothing)
    }

    fn numbers(&mut self, old: &Tree, new: &Tree) -> Result<Scope> {
        let set = |tree: &Tree, count: u32| {
            let mut set = PageSet::new(count);
            tree.leaves.iter().for_each(|leaf| {
                set.insert(leaf.page);
            });
            set
        };
        let (in_old, in_new) = (set(old, self.before.count), set(new, self.after.count));
        let mut ranges = Vec::new();
        self.ranges(&old.leaves, &in_new, &mut ranges)?;
        self.ranges(&new.leaves, &in_old, &mut ranges)?;
        if !self.loose.is_empty() {
            for leaf in &old.leaves {
                if in_new.has(leaf.page) && !self.differs(leaf.page)? {
                    let Some(rows) = self.before.rows_in(leaf.page, &self.loose)? else {
                        return Ok(Scope::All);
                    };
                    ranges.extend(rows.into_iter().map(|number| (number, number)));
                }
            }
        }
        Ok(joined(ranges))
    }

    /// What the leaves span that the other version does not have like that.
    fn ranges(&mut self, leaves: &[Leaf], others: &PageSet, out: &mut Vec<(i64, i64)>) -> Result<()> {
        let mut first = Some(i64::MIN);
        for leaf in leaves {
            if let Some(first) = first.filter(|first| *first <= leaf.last)
                && (!others.has(leaf.page) || self.differs(leaf.page)?)
            {
                out.push((first, leaf.last));
            }
            first = leaf.last.checked_add(1);
        }
        Ok(())
    }
}

/// Ranges in order, those that touch made one.
fn joined(mut ranges: Vec<(i64, i64)>) -> Scope {
    ranges.sort_unstable();
    let mut out: Vec<(i64, i64)> = Vec::new();
    for (first, last) in ranges {
        match out.last_mut() {
            Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
            _ => out.push((first, last)),
        }
    }
    if out.is_empty() { Scope::Nothing } else { Scope::Numbers(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_joined() {
        assert_eq!(
            joined(vec![(5, 9), (1, 4), (20, i64::MAX), (11, 12)]),
            Scope::Numbers(vec![(1, 9), (11, 12), (20, i64::MAX)])
        );
        assert_eq!(joined(vec![]), Scope::Nothing);
    }
}
