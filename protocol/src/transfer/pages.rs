//! The chaining values that a receiver holds: the top level, and a few pages around where it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Cv, FileId, Geometry,
    limits::PAGES_HELD,
    reason::PeerMisbehaved,
    tree::{Expected, check_page, check_top},
};

/// Lists of chaining values, each checked before it is kept.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    geometry: Geometry,
    file_id: FileId,
    /// The top level, once it came; empty where the file has no more than one page.
    top: Vec<Cv>,
    held: BTreeMap<u32, Vec<Cv>>,
    asked: BTreeSet<u32>,
}

impl Pages {
    pub(super) fn new(geometry: Geometry, file_id: FileId) -> Self {
        Self { geometry, file_id, top: Vec::new(), held: BTreeMap::new(), asked: BTreeSet::new() }
    }

    /// Whether this file has a top level, and it is not here.
    pub(super) fn lack_top(&self) -> bool {
        self.geometry.pages() > 1 && self.top.is_empty()
    }

    /// Whether pages were asked for that have not come.
    pub(super) fn are_owed(&self) -> bool {
        !self.asked.is_empty()
    }

    pub(super) fn take_top(&mut self, top: Vec<Cv>) -> Result<(), PeerMisbehaved> {
        if !self.lack_top() {
            return Err(PeerMisbehaved::UnexpectedMessage("Top"));
        }
        check_top(self.geometry, self.file_id, &top)?;
        self.top = top;
        Ok(())
    }

    pub(super) fn take_page(&mut self, page: u32, values: Vec<Cv>) -> Result<(), PeerMisbehaved> {
        if !self.asked.contains(&page) || self.lack_top() {
            return Err(PeerMisbehaved::UnexpectedMessage("Page"));
        }
        check_page(self.geometry, self.file_id, &self.top, page, &values)?;
        self.asked.remove(&page);
        self.held.insert(page, values);
        Ok(())
    }

    /// The first page was asked for, if there is one.
    pub(super) fn asked_first(&mut self) {
        if self.geometry.pages() > 0 {
            self.asked.insert(0);
        }
    }

    /// Whether the page of a chunk is here, or was asked for.
    pub(super) fn have_or_asked(&self, chunk: u32) -> bool {
        let page = self.geometry.page_of(chunk);
        self.geometry.pages() == 0 || self.held.contains_key(&page) || self.asked.contains(&page)
    }

    /// What the bytes of a chunk must hash to, once its page is here.
    pub(super) fn expected(&self, chunk: u32) -> Option<Expected> {
        if self.geometry.pages() == 0 {
            return Some(Expected::Root(self.file_id));
        }
        let page = self.geometry.page_of(chunk);
        let values = self.held.get(&page)?;
        let first = self.geometry.page_chunks(page).start;
        values.get((chunk - first) as usize).map(|cv| Expected::Subtree(*cv))
    }

    /// Lets go of the pages that are used up, and asks for those that come next: the page of the first chunk that
    /// is not here, that of the last one, since a size is only a claim until it has verified, and some more.
    /// `open_from` finds the first chunk, from a given one on, that needs its page; `busy` are those that use theirs now.
    pub(super) fn turn(
        &mut self,
        open_from: impl Fn(u32) -> Option<u32>,
        busy: impl Iterator<Item = u32>,
    ) -> Vec<u32> {
        let geometry = self.geometry;
        if geometry.pages() == 0 {
            return Vec::new();
        }
        let mut needed: BTreeSet<u32> = BTreeSet::new();
        let last = geometry.chunks().saturating_sub(1);
        needed.extend(open_from(last).map(|chunk| geometry.page_of(chunk)));
        let mut next = open_from(0);
        while let Some(chunk) = next
            && needed.len() < PAGES_HELD
        {
            let page = geometry.page_of(chunk);
            needed.insert(page);
            next = open_from(geometry.page_chunks(page).end);
        }
        let busy: BTreeSet<u32> = busy.map(|chunk| geometry.page_of(chunk)).collect();
        self.held.retain(|page, _| needed.contains(page) || busy.contains(page));
        let ask: Vec<u32> = needed
            .into_iter()
            .filter(|page| !self.held.contains_key(page) && !self.asked.contains(page))
            .take(PAGES_HELD.saturating_sub(self.asked.len()))
            .collect();
        self.asked.extend(&ask);
        ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{chunks_from_groups, hash_group, hash_small};

    #[test]
    fn pages_are_owed_until_they_come() {
        let data = vec![7; 3 << 18];
        let groups: Vec<Cv> =
            data.chunks(1 << 18).enumerate().map(|(n, part)| hash_group(n as u64, part)).collect();
        let geometry = Geometry::new(3 << 18, 18).unwrap();
        let mut pages = Pages::new(geometry, hash_small(&data));
        assert!(!pages.are_owed() && !pages.have_or_asked(0));
        pages.asked_first();
        assert!(pages.are_owed() && pages.have_or_asked(2) && pages.expected(2).is_none());
        pages.take_page(0, chunks_from_groups(geometry, &groups)).unwrap();
        assert!(!pages.are_owed() && pages.have_or_asked(2));
        assert_eq!(pages.expected(2), Some(Expected::Subtree(groups[2])));
        assert!(pages.take_page(0, groups).is_err(), "nobody asked again");
    }

    #[test]
    fn a_file_of_one_chunk_owes_no_page() {
        let mut pages = Pages::new(Geometry::new(5, 18).unwrap(), hash_small(b"small"));
        pages.asked_first();
        assert!(!pages.are_owed() && pages.have_or_asked(0));
        assert_eq!(pages.expected(0), Some(Expected::Root(hash_small(b"small"))));
    }
}
